"""The house style: sizes, labels, colours, and figures that are the same every time."""

import base64
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from PIL import Image

from fpbook import figures


@pytest.fixture(autouse=True)
def own_style() -> Iterator[None]:
    with plt.rc_context():
        yield
    plt.close("all")


@pytest.fixture
def axes() -> Axes:
    return plt.figure().add_subplot()


# --- sizes --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "aspect", "inches"),
    [(1.0, 0.6, (5.6, 3.36)), (0.5, 1.0, (2.8, 2.8)), (0.25, 2.0, (1.4, 2.8))],
)
def test_size(width: float, aspect: float, inches: tuple[float, float]) -> None:
    assert figures.size(width, aspect) == pytest.approx(inches)


@given(width=st.floats(1e-3, 1), share=st.floats(1e-3, 1), aspect=st.floats(1e-3, 1e3))
def test_size_scales_with_its_width(width: float, share: float, aspect: float) -> None:
    whole, part = figures.size(width, aspect), figures.size(width * share, aspect)
    assert part == pytest.approx((whole[0] * share, whole[1] * share))
    assert whole[1] / whole[0] == pytest.approx(aspect)
    assert part[0] <= whole[0] <= figures.TEXT_WIDTH


@given(power=st.integers(-300, 300))
def test_labels_of_decades_can_be_read_back(power: int) -> None:
    axis = Figure().add_subplot().xaxis
    figures.plain_powers(axis)
    label = axis.get_major_formatter()(10.0**power)
    lowered = {raised: plain for plain, raised in figures.RAISED.items()}
    assert label.startswith("10")
    assert int(label[2:].translate(lowered)) == power


def test_size_fills_the_text_by_default() -> None:
    assert figures.size() == figures.size(1.0, 0.6)
    assert figures.size()[0] == figures.TEXT_WIDTH


@pytest.mark.parametrize("width", [0.0, -0.5, 1.01, np.nan])
def test_size_refuses_a_width_outside_of_the_text(width: float) -> None:
    with pytest.raises(ValueError, match=rf"width must be in \(0, 1\] .* got {width}"):
        figures.size(width)


@pytest.mark.parametrize("aspect", [0.0, -1.0, np.nan])
def test_size_refuses_an_aspect_without_height(aspect: float) -> None:
    with pytest.raises(ValueError, match=f"aspect must be > 0, got {aspect}"):
        figures.size(1.0, aspect)


# --- labels -------------------------------------------------------------------------


def only_label(axes: Axes) -> Annotation:
    (label,) = axes.texts
    assert isinstance(label, Annotation)
    return label


@pytest.mark.parametrize(
    ("at", "point"), [(0, (1, 10)), (0.5, (3, 30)), (0.7, (4, 40)), (1, (5, 50))]
)
def test_a_label_stands_at_a_point_of_the_line(
    axes: Axes, at: float, point: tuple[float, float]
) -> None:
    axes.plot([1, 2, 3, 4, 5], [10, 20, 30, 40, 50])
    figures.label_line(axes, "a name", at)
    label = only_label(axes)
    assert label.get_text() == "a name"
    assert tuple(label.xy) == point
    assert label.get_position() == (4, 4)
    assert label.anncoords == "offset points"


def test_a_label_belongs_to_the_last_line(axes: Axes) -> None:
    axes.plot([0, 1], [0, 1], color="red")
    axes.plot([0, 1], [5, 6], color="blue")
    figures.label_line(axes, "blue", at=1, offset=7)
    label = only_label(axes)
    assert tuple(label.xy) == (1, 6)
    assert label.get_color() == "blue"
    assert label.get_position() == (7, 7)


def test_a_label_needs_a_line(axes: Axes) -> None:
    with pytest.raises(ValueError, match="axes hold no line"):
        figures.label_line(axes, "a name", at=0)


@pytest.mark.parametrize("at", [-0.1, 1.1, np.nan])
def test_a_label_stays_on_the_line(axes: Axes, at: float) -> None:
    axes.plot([0, 1], [0, 1])
    with pytest.raises(ValueError, match=rf"at must be in \[0, 1\], got {at}"):
        figures.label_line(axes, "a name", at)
    assert not axes.texts


# --- the style ----------------------------------------------------------------------


def test_the_colour_cycle_is_the_one_that_pages_name() -> None:
    figures.use_house_style()
    cycle = mpl.rcParams["axes.prop_cycle"].by_key()["color"]
    assert [to_hex(colour).upper() for colour in cycle] == list(figures.COLOURS)


def test_the_default_figure_fills_the_text() -> None:
    figures.use_house_style()
    assert mpl.rcParams["figure.figsize"][0] == figures.TEXT_WIDTH


DRAW = """
import io, sys
import matplotlib
matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from fpbook import figures

figures.use_house_style()
figure, axes = plt.subplots(figsize=figures.size())
x = np.linspace(0, 1, 20)
axes.plot(x, x**2)
axes.errorbar(x, x, x / 9, fmt="o", label="measured")
axes.fill_between(x, 0, x, alpha=0.2)
axes.imshow(np.outer(x, x), extent=(0, 1, 0, 1))
figures.label_line(axes, "$x^2$", at=0.5)
axes.set(xlabel="time", ylabel="error", xlim=(0, 1))
axes.legend()
for form in ("svg", "png"):
    figure.savefig(f"{sys.argv[1]}.{form}", metadata={"Date": None} if form == "svg"
                   else None)
"""


def test_a_fresh_process_draws_the_same_bytes(tmp_path: Path) -> None:
    """Otherwise images change their names at every build, and caches never hit."""
    # Sets and dictionaries of strings are ordered differently in the two processes.
    started = [
        subprocess.Popen(
            [sys.executable, "-c", DRAW, str(tmp_path / seed)],
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        for seed in ("1", "2")
    ]
    assert [process.wait(timeout=60) for process in started] == [0, 0]
    for form in ("svg", "png"):
        one, two = (tmp_path / f"{seed}.{form}" for seed in ("1", "2"))
        assert one.stat().st_size > 1000
        assert one.read_bytes() == two.read_bytes()
    assert "<dc:date>" not in (tmp_path / "1.svg").read_text("utf-8")


# --- logarithmic axes ---------------------------------------------------------------


def test_plain_powers_labels_decades_without_formulas(axes: Axes) -> None:
    axes.semilogy([1e-12, 1e3])
    figures.plain_powers(axes.yaxis)
    label = axes.yaxis.get_major_formatter()
    assert [label(value) for value in (1e-12, 0.1, 1.0, 1e3)] == [
        "10⁻¹²",
        "10⁻¹",
        "10⁰",
        "10³",
    ]
    assert [label(value) for value in (0.0, 3.0, 9.99, -10.0)] == [""] * 4


def test_plain_powers_leaves_ticks_between_decades_without_labels(axes: Axes) -> None:
    axes.semilogy([1, 5])
    axes.figure.canvas.draw()
    assert any(t.get_text() for t in axes.get_yticklabels(minor=True))
    figures.plain_powers(axes.yaxis)
    axes.figure.canvas.draw()
    assert not any(t.get_text() for t in axes.get_yticklabels(minor=True))


# --- the layout ---------------------------------------------------------------------


def drawn() -> Figure:
    figure, axes = plt.subplots(1, 2, figsize=figures.size(aspect=0.5))
    axes[0].semilogy([1, 2, 3], [1e-3, 20, 3], "o-", label="$x^2$")
    axes[0].legend()
    image = axes[1].imshow([[0, 1], [2, 3]])
    figure.colorbar(image, ax=axes[1], label="a density")
    for each in axes:
        each.set(xlabel="time", ylabel="height")
    return figure


def svg_of(figure: Figure, dpi: float | None = None) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", dpi=dpi, metadata={"Date": None})
    return buffer.getvalue()


def places_of(figure: Figure) -> list[tuple[float, float, float, float]]:
    return [axes.get_position().bounds for axes in figure.axes]


def test_a_figure_laid_out_once_is_the_same_figure() -> None:
    figures.use_house_style()
    figure, alone = drawn(), svg_of(drawn())
    by_hand = places_of(figure)
    with figures.laid_out(figure):
        assert svg_of(figure) == alone
        figure.savefig(io.BytesIO(), format="png")
        together = places_of(figure)
    figure.savefig(io.BytesIO(), format="png")
    # Letters are whole pixels wide in a PNG, a thousandth of the figure each.
    assert np.abs(np.subtract(together, places_of(figure))).max() < 5e-3
    assert np.abs(np.subtract(together, by_hand)).max() > 5e-2


def test_a_laid_out_figure_is_drawn_once_for_each_format(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    figures.use_house_style()
    figure = drawn()
    times: list[object] = []
    draw = Axes.draw

    def counted(axes: Axes, renderer: RendererBase) -> None:
        times.append(axes)
        draw(axes, renderer)

    monkeypatch.setattr(Axes, "draw", counted)
    with figures.laid_out(figure):
        svg_of(figure)
        figure.savefig(io.BytesIO(), format="png")
    assert times.count(figure.axes[0]) == 2
    svg_of(figure)
    # Matplotlib's own way: if it draws once, too, the block is no longer needed.
    assert times.count(figure.axes[0]) == 4


def test_a_figure_gets_back_what_it_had_before() -> None:
    figures.use_house_style()
    figure = drawn()
    before = figure.get_layout_engine(), figure.canvas, figure.dpi
    with pytest.raises(ValueError, match="Format 'none'"), figures.laid_out(figure):
        figure.savefig(io.BytesIO(), format="none")
    assert (figure.get_layout_engine(), figure.canvas, figure.dpi) == before
    assert mpl.rcParams["figure.constrained_layout.use"]


def test_a_figure_placed_by_hand_stays_where_it_is() -> None:
    figure = plt.figure(layout="none")
    axes = figure.add_axes((0.2, 0.3, 0.4, 0.5))
    with figures.laid_out(figure):
        svg_of(figure)
    assert axes.get_position().bounds == pytest.approx((0.2, 0.3, 0.4, 0.5))


def test_a_notebook_shows_both_formats_of_a_figure() -> None:
    figures.use_house_style()
    bundle = figures.image_bundle(drawn())
    figure = drawn()
    assert bundle["image/svg+xml"] == svg_of(figure, figure.dpi)
    shown = Image.open(io.BytesIO(base64.b64decode(bundle["image/png"])))
    assert shown.size == tuple((figure.dpi * figure.get_size_inches()).astype(int))
    assert figures.image_bundle(plt.figure()) == {}
