"""Explorers: the frames of the static page, the live sliders, the author's errors."""

import base64
import io
import itertools
import json
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pytest
from bs4 import BeautifulSoup, Tag
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from fpbook import figures, progress
from fpbook.explore import MOST_BYTES, MOST_FRAMES, STILL_DPI, PageFigure, explore

# Inches: small, so that a frame is drawn in milliseconds.
SIZE = (1.5, 1.0)


@pytest.fixture(autouse=True)
def own_figures() -> Iterator[None]:
    """Draw in the house style, and leave no figure and no style behind."""
    with plt.rc_context():
        figures.use_house_style()
        yield
    plt.close("all")


@pytest.fixture
def static(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(progress.STATIC_ENVIRONMENT, "1")


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(progress.STATIC_ENVIRONMENT, raising=False)


def painted(colour: str, size: tuple[float, float] = SIZE) -> Figure:
    """A figure that is one plain colour, by which a frame is recognised."""
    figure = plt.figure(figsize=size)
    figure.add_artist(Rectangle((0, 0), 1, 1, color=colour))
    return figure


def colour_of(first: float, second: float = 0) -> str:
    return f"#{10 * int(first):02x}{10 * int(second):02x}80"


def draw_one(height: float) -> Figure:
    return painted(colour_of(height))


def draw_two(height: float, width: float) -> tuple[Figure, str]:
    return painted(colour_of(height, width)), f"{height:g} high & {width:g} wide"


def draw_word(mood: str) -> tuple[Figure, str]:
    return painted({"calm": "#000080", "wild": "#640080"}[mood]), f"a {mood} one"


def page_of(shown: Any) -> Tag:
    assert isinstance(shown, PageFigure)
    markup = shown._repr_mimebundle_()["text/html"]
    (explorer,) = BeautifulSoup(markup, "html.parser").select(".fpbook-explorer")
    return explorer


def frames_of(explorer: Tag) -> tuple[list[str], list[str]]:
    """The SVG images and the texts of all frames, as ``explore.js`` unpacks them."""
    packed = explorer.select("script")[0].get_text()
    frames = json.loads(zlib.decompress(base64.b64decode(packed)))
    return frames["images"], frames["texts"]


# --- the static page ----------------------------------------------------------------


@pytest.mark.usefixtures("static")
def test_one_slider_offers_its_values_in_order() -> None:
    explorer = page_of(explore(draw_one, height=[5, 2, 9]))
    (slider,) = explorer.select("input[type=range]")
    assert [slider[name] for name in ("min", "max", "step", "value")] == list("0210")
    assert json.loads(str(slider["data-values"])) == ["5", "2", "9"]
    images, texts = frames_of(explorer)
    assert texts == ["height 5", "height 2", "height 9"]
    for image, value in zip(images, [5, 2, 9], strict=True):
        assert colour_of(value) in image


SMALL = st.lists(st.integers(1, 20), min_size=2, max_size=3, unique=True)


# Each example draws up to nine frames.
@settings(max_examples=10, deadline=None)
@given(heights=SMALL, widths=SMALL, data=st.data())
def test_every_combination_is_there_once_and_the_start_is_shown(
    heights: list[int], widths: list[int], data: st.DataObject
) -> None:
    start = {
        "height": data.draw(st.sampled_from(heights)),
        "width": data.draw(st.sampled_from(widths)),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(progress.STATIC_ENVIRONMENT, "1")
        shown = explore(draw_two, start=start, height=heights, width=widths)
    explorer = page_of(shown)
    _, texts = frames_of(explorer)
    combinations = itertools.product(heights, widths)
    assert texts == [f"{h:g} high & {w:g} wide" for h, w in combinations]
    told = "{height:g} high & {width:g} wide".format(**start)
    (still,) = explorer.select("img")
    assert still["alt"] == shown.text == told
    places = [int(slider["value"]) for slider in explorer.select("input[type=range]")]
    assert places == [heights.index(start["height"]), widths.index(start["width"])]


@pytest.mark.usefixtures("static")
def test_frames_of_two_sliders_are_counted_row_by_row() -> None:
    heights, widths = [1.0, 2.0, 3.0], [4.0, 5.0]
    explorer = page_of(explore(draw_two, height=heights, width=widths))
    rows, columns = explorer.select("input[type=range]")
    assert str(rows["id"]).endswith("-height")
    assert str(columns["id"]).endswith("-width")
    images, texts = frames_of(explorer)
    assert len(images) == len(texts) == 6
    for row, height in enumerate(heights):
        for column, width in enumerate(widths):
            frame = row * len(widths) + column
            assert texts[frame] == f"{height:g} high & {width:g} wide"
            shown = re.findall("#[0-9a-f]{4}80", images[frame])
            assert set(shown) == {colour_of(height, width)}


@pytest.mark.usefixtures("static")
def test_the_values_are_those_that_draw_gets() -> None:
    got: list[Any] = []

    def draw(x: Any, word: str) -> Figure:
        got.append((x, word))
        return painted("#123456")

    explore(draw, x=[0.1, 3], word=["a", "b"])
    assert got == [(0.1, "a"), (0.1, "b"), (3, "a"), (3, "b")]


@pytest.mark.usefixtures("static")
@pytest.mark.parametrize(
    ("start", "places", "frame"),
    [
        (None, [0, 0], 0),
        ({"width": 5.0}, [0, 1], 1),
        ({"height": 3.0, "width": 4.0}, [2, 0], 4),
    ],
)
def test_the_start_is_shown_first(
    start: dict[str, float] | None, places: list[int], frame: int
) -> None:
    shown = explore(draw_two, start=start, height=[1.0, 2.0, 3.0], width=[4.0, 5.0])
    explorer = page_of(shown)
    images, texts = frames_of(explorer)
    for slider, output, place in zip(
        explorer.select("input"), explorer.select("output"), places, strict=True
    ):
        assert slider["value"] == str(place)
        told = json.loads(str(slider["data-values"]))[place]
        assert slider["aria-valuetext"] == output.get_text() == told
    (image,) = explorer.select("img")
    assert image["alt"] == texts[frame]
    scheme, encoded = str(image["src"]).split(",")
    assert scheme == "data:image/svg+xml;base64"
    assert base64.b64decode(encoded).decode() == images[frame]
    assert explorer.select(".fpbook-explorer-text")[0].get_text() == texts[frame]
    assert shown.text == texts[frame]


@pytest.mark.usefixtures("static")
def test_controls_are_named_and_connected() -> None:
    explorer = page_of(
        explore(draw_two, labels={"height": "h < 1"}, height=[1, 2], width=[3, 4])
    )
    assert explorer["role"] == "group"
    assert explorer["aria-label"] == "Explore by h < 1 and width"
    for slider, label, output, name in zip(
        explorer.select("input"),
        explorer.select("label"),
        explorer.select("output"),
        ["h < 1", "width"],
        strict=True,
    ):
        assert label["for"] == slider["id"]
        assert output["for"] == [slider["id"]]
        assert label.get_text() == name
    (text,) = explorer.select(".fpbook-explorer-text")
    assert text["aria-live"] == "polite"


@pytest.mark.usefixtures("static")
def test_underscores_are_shown_as_blanks() -> None:
    def draw(learning_rate: float) -> Figure:
        return painted("#123456")

    explorer = page_of(explore(draw, learning_rate=[0.1, 0.25]))
    assert explorer.select("label")[0].get_text() == "learning rate"
    assert frames_of(explorer)[1] == ["learning rate 0.1", "learning rate 0.25"]


@pytest.mark.usefixtures("static")
def test_texts_are_escaped() -> None:
    hostile = """</script><script>alert("1")</script> & 'x' <!--"""

    def draw(word: str) -> tuple[Figure, str]:
        return painted("#123456"), f"{word}: {hostile}"

    explorer = page_of(explore(draw, labels={"word": hostile}, word=[hostile, "b"]))
    assert len(explorer.select("script")) == 2
    assert explorer.select("label")[0].get_text() == hostile
    assert explorer.select("input")[0]["aria-valuetext"] == hostile
    assert explorer.select("img")[0]["alt"] == f"{hostile}: {hostile}"
    assert frames_of(explorer)[1] == [f"{hostile}: {hostile}", f"b: {hostile}"]


@pytest.mark.usefixtures("static")
def test_every_form_of_the_figure_has_the_size_that_was_drawn() -> None:
    shown = explore(draw_two, start={"width": 5}, height=[1, 2], width=[4, 5])
    points = [72 * inches for inches in SIZE]
    for image in frames_of(page_of(shown))[0]:
        width, height = (
            re.search(rf'<svg [^>]*\b{name}="([\d.]+)pt"', image)
            for name in ("width", "height")
        )
        assert width is not None
        assert height is not None
        assert [float(width[1]), float(height[1])] == points
    bundle = shown._repr_mimebundle_()
    assert set(bundle) == {"text/html", "image/png", "text/plain"}
    assert bundle["text/plain"] == "1 high & 5 wide"
    still = Image.open(io.BytesIO(base64.b64decode(bundle["image/png"])))
    assert still.size == (STILL_DPI * SIZE[0], STILL_DPI * SIZE[1])
    assert still.convert("RGB").getpixel((50, 50)) == (10, 50, 0x80)


@pytest.mark.usefixtures("static")
def test_rounded_coordinates_move_nothing_that_can_be_seen() -> None:
    x = np.linspace(0, 1, 50)

    def draw(k: int) -> Figure:
        figure, axes = plt.subplots(figsize=SIZE)
        axes.plot(x, np.sin(k * x))
        return figure

    buffer = io.StringIO()
    draw(7).savefig(buffer, format="svg", metadata={"Date": None})
    shown = frames_of(page_of(explore(draw, k=[3, 7])))[0][1]
    number = re.compile(r"-?\d+\.\d+")
    exact, rounded = number.findall(buffer.getvalue()), number.findall(shown)
    assert len(exact) == len(rounded)
    differences = np.array(exact, dtype=float) - np.array(rounded, dtype=float)
    # Points; two decimals are kept, so half of a hundredth is lost (and no more
    # than rounding errors beyond).
    assert 1e-4 < np.abs(differences).max() <= 0.005 + 1e-9
    assert number.sub("", buffer.getvalue()) == number.sub("", shown)


@pytest.mark.usefixtures("static")
def test_two_calls_give_the_same_bytes() -> None:
    def draw(k: int) -> Figure:
        figure, axes = plt.subplots(figsize=SIZE)
        axes.plot([0, 1], [0, k], "o-")
        axes.set(xlabel="time", ylabel="height")
        return figure

    one, two = explore(draw, k=[1, 2]), explore(draw, k=[1, 2])
    assert one == two
    assert one is not two


@pytest.mark.usefixtures("static")
def test_figures_are_closed() -> None:
    explore(draw_two, height=[1, 2], width=[3, 4])
    assert plt.get_fignums() == []


@pytest.mark.usefixtures("static")
def test_at_most_25_frames_are_drawn() -> None:
    five = [1, 2, 3, 4, 5]
    images, _ = frames_of(page_of(explore(draw_two, height=five, width=five)))
    assert len(images) == MOST_FRAMES == 25


def draw_noise(dots: int) -> Figure:
    figure, axes = plt.subplots()
    axes.plot(*np.random.default_rng(dots).random((2, dots)))
    return figure


@pytest.mark.usefixtures("static")
def test_heavy_frames_are_refused() -> None:
    """Random coordinates do not compress: a few bytes for each of 60,000 points."""
    with pytest.raises(ValueError, match=r"the 2 frames weigh \d+ bytes, at most"):
        explore(draw_noise, dots=[30_000, 30_001])
    light = explore(draw_noise, dots=[3_000, 3_001])
    # Not a limit of the book: that the light twin is well inside shows that the
    # heavy one was refused for its dots.
    assert len(light.page) < MOST_BYTES / 2


# --- errors of the author -----------------------------------------------------------


def three(a: int, b: int, c: int) -> Figure:
    return painted("#123456")


def changing_size(k: int) -> Figure:
    return painted("#123456", (1.0, float(k)))


VALUE_ERRORS: dict[str, tuple[Callable[..., Any], dict[str, Any], str]] = {
    "no parameter": (draw_one, {}, "1 to 2 parameters, got 0"),
    "three parameters": (
        three,
        {"a": [1, 2], "b": [1, 2], "c": [1, 2]},
        r"got 3: \['a', 'b', 'c'\]",
    ),
    "no value": (draw_one, {"height": []}, "height must offer at least two"),
    "one value": (draw_one, {"height": [1]}, r"at least two values, got \[1\]"),
    "a word for values": (draw_one, {"height": "ab"}, "at least two values, got 'ab'"),
    "26 frames": (draw_one, {"height": range(26)}, "at most 25 frames .* got 26"),
    "5 x 6 frames": (
        draw_two,
        {"height": range(5), "width": range(6)},
        "at most 25 frames .* got 30",
    ),
    "a value twice": (draw_one, {"height": [1, 2, 1.0]}, "offers a value twice"),
    "unknown parameter": (
        draw_one,
        {"size": [1, 2]},
        r"exactly the parameters \['size'\]",
    ),
    "missing parameter": (draw_two, {"height": [1, 2]}, "exactly the parameters"),
    "one too many": (
        draw_one,
        {"height": [1, 2], "width": [1, 2]},
        "exactly the parameters",
    ),
    "unknown start": (
        draw_one,
        {"height": [1, 2], "start": {"hight": 1}},
        r"start names \['hight'\], allowed are \['height'\]",
    ),
    "unknown label": (
        draw_one,
        {"height": [1, 2], "labels": {"hight": "h"}},
        r"labels names \['hight'\], allowed are \['height'\]",
    ),
    "unknown play": (
        draw_one,
        {"height": [1, 2], "play": "time"},
        r"play names \['time'\], allowed are \['height'\]",
    ),
    "start not offered": (
        draw_one,
        {"height": [1, 2], "start": {"height": 1.5}},
        r"one of the values \[1, 2\] of height, got 1\.5",
    ),
}
TYPE_ERRORS: dict[str, tuple[Callable[..., Any], str]] = {
    "nothing": (lambda height: None, "got None at height 1"),
    "a text only": (lambda height: "text", "got .text. at height 1"),
    "a tuple without a figure": (
        lambda height: (1, "text"),
        r"got \(1, .text.\) at height 1",
    ),
    "axes": (lambda height: painted("r").add_axes((0, 0, 1, 1)), "got <Axes: > at"),
}


@pytest.mark.parametrize("mode", ["static", "live"])
@pytest.mark.parametrize(
    ("draw", "arguments", "message"), VALUE_ERRORS.values(), ids=VALUE_ERRORS
)
def test_wrong_values_are_told(
    draw: Callable[..., Any],
    arguments: dict[str, Any],
    message: str,
    mode: str,
    request: pytest.FixtureRequest,
) -> None:
    request.getfixturevalue(mode)
    with pytest.raises(ValueError, match=message):
        explore(draw, **arguments)


@pytest.mark.usefixtures("static")
@pytest.mark.parametrize(("draw", "message"), TYPE_ERRORS.values(), ids=TYPE_ERRORS)
def test_a_draw_without_a_figure_is_told(
    draw: Callable[..., Any], message: str
) -> None:
    with pytest.raises(TypeError, match=f"draw must return a matplotlib .* {message}"):
        explore(draw, height=[1, 2])


@pytest.mark.usefixtures("static")
def test_frames_of_different_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"figures of one size, got .*1\.0.*2\.0"):
        explore(changing_size, k=[1, 2])


# --- the live notebook --------------------------------------------------------------

SLIDERS: dict[str, tuple[list[Any], type[ipywidgets.Widget], dict[str, Any]]] = {
    "integers": ([5, 1, 3], ipywidgets.IntSlider, {"min": 1, "max": 5, "value": 5}),
    "numbers": (
        [0.5, 1.0, 1.5],
        ipywidgets.FloatSlider,
        {"min": 0.5, "max": 1.5, "value": 0.5, "step": 0.005},
    ),
    "two numbers": ([1.0, 10.0], ipywidgets.FloatSlider, {"min": 1.0, "max": 10.0}),
    "down to zero": ([0.0, 1.0, 10.0], ipywidgets.FloatSlider, {"min": 0, "max": 10}),
    "mixed": ([1, 1.5, 2], ipywidgets.FloatSlider, {"min": 1, "max": 2}),
    "geometric": (
        [0.01, 0.1, 1.0, 10.0],
        ipywidgets.FloatLogSlider,
        {"min": -2, "max": 1, "value": 0.01, "base": 10, "step": 3 / 200},
    ),
    "words": (
        ["calm", "wild"],
        ipywidgets.SelectionSlider,
        {"options": ("calm", "wild"), "value": "calm"},
    ),
    "a word among numbers": (
        [1, 2, "many"],
        ipywidgets.SelectionSlider,
        {"options": (1, 2, "many"), "value": 1},
    ),
}


@pytest.mark.usefixtures("live")
@pytest.mark.parametrize(("values", "kind", "traits"), SLIDERS.values(), ids=SLIDERS)
def test_a_live_slider_covers_the_range(
    values: list[Any], kind: type[ipywidgets.Widget], traits: dict[str, Any]
) -> None:
    def draw(some_value: Any) -> Figure:
        return painted("#123456")

    box = explore(draw, some_value=values)
    slider, output = box.children
    assert type(slider) is kind
    assert isinstance(output, ipywidgets.Output)
    assert slider.description == "some value"
    assert not slider.continuous_update
    for name, value in traits.items():
        found = getattr(slider, name)
        # The widget computes its ends with a logarithm: a few units of 1.1e-16.
        assert found == (
            pytest.approx(value, rel=1e-12) if isinstance(value, float) else value
        )


@pytest.mark.usefixtures("live")
def test_moving_a_live_slider_draws_the_new_value() -> None:
    got: list[Any] = []

    def draw(height: int, width: float) -> tuple[Figure, str]:
        got.append((height, width))
        return draw_two(height, width)

    box = explore(
        draw,
        labels={"height": "h"},
        start={"width": 0.5},
        height=[1, 9],
        width=[0.25, 0.5, 0.75],
    )
    rows, columns, _ = box.children
    assert rows.description == "h"
    assert got == [(1, 0.5)]
    rows.value = 4
    columns.value = 0.6
    assert got == [(1, 0.5), (4, 0.5), (4, 0.6)]
    assert plt.get_fignums() == []


@pytest.mark.usefixtures("live")
def test_a_live_choice_gives_the_word() -> None:
    got: list[str] = []

    def draw(mood: str) -> tuple[Figure, str]:
        got.append(mood)
        return draw_word(mood)

    choice, _ = explore(draw, mood=["calm", "wild"]).children
    choice.value = "wild"
    assert got == ["calm", "wild"]


@pytest.mark.usefixtures("live")
def test_without_ipywidgets_the_install_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(ImportError, match=r"pip install 'fpbook\[interactive\]'"):
        explore(draw_one, height=[1, 2])


@pytest.mark.usefixtures("static")
def test_the_static_page_needs_no_ipywidgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert isinstance(explore(draw_one, height=[1, 2]), PageFigure)


@pytest.mark.usefixtures("static")
def test_a_wrong_draw_closes_its_own_figures_only() -> None:
    mine = plt.figure()

    def draw(height: float) -> None:
        plt.figure()

    with pytest.raises(TypeError, match="draw must return"):
        explore(draw, height=[1, 2])
    assert plt.get_fignums() == [mine.number]
    plt.close(mine)


@pytest.mark.usefixtures("static")
def test_a_button_plays_the_named_parameter() -> None:
    shown = explore(draw_two, height=[1, 2], width=[3, 4], play="width")
    explorer = page_of(shown)
    (button,) = explorer.select("button")
    slider = explorer.select("input")[1]
    assert button["aria-controls"] == slider["id"]
    assert float(str(button["data-interval"])) > 0
    assert not page_of(explore(draw_one, height=[1, 2])).select("button")


@pytest.mark.usefixtures("live")
def test_playing_live_walks_through_the_offered_values() -> None:
    got: list[float] = []

    def draw(height: float) -> Figure:
        got.append(height)
        return draw_one(height)

    box = explore(draw, height=[0.5, 1.5, 4.0], play="height")
    _, player, _ = box.children
    assert isinstance(player, ipywidgets.Play)
    assert player.max == 2
    player.value = 1
    player.value = 2
    assert got == [0.5, 1.5, 4.0]
