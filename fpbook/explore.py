"""Figures with sliders that move without a kernel.

The author writes one function of one or two parameters that draws a figure, and
the values to offer. On the built page every combination is drawn beforehand and
the sliders choose among the frames; in a live notebook the same call gives
ipywidgets over the continuous range of the values.
"""

import base64
import hashlib
import html
import inspect
import io
import itertools
import json
import re
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from fpbook import figures, progress
from fpbook.validation import require_callable, require_type

MOST_PARAMETERS = 2
MOST_FRAMES = 25
MOST_BYTES = 400_000
STILL_DPI = 160
PLAY_MILLISECONDS = 400

PATH = re.compile(r' d="[^"]*"')
DECIMALS = re.compile(r"-?\d+\.\d{3,}")

Value = float | int | str
Drawing = Figure | tuple[Figure, str]


def explore(
    draw: Callable[..., Drawing],
    /,
    *,
    labels: Mapping[str, str] | None = None,
    start: Mapping[str, Value] | None = None,
    play: str | None = None,
    **values: Sequence[Value],
) -> Any:
    """Make a figure that is explored with sliders; use as last line of a cell.

    Parameters
    ----------
    draw
        Called with one keyword argument per parameter; returns a matplotlib figure,
        or the figure and a text that says what this frame shows. The text stands
        under the figure and is announced by screen readers.
    labels
        Name of a parameter on the page, by parameter; the default is its name with
        blanks for underscores.
    start
        Value shown first, by parameter; the default is the first value.
    play
        A parameter, such as a time, whose values a button shows one after the other.
    **values
        The values to offer, by parameter: one or two parameters, at least two values
        each, at most 25 combinations. Numbers, or words for a choice.

    Returns
    -------
    object
        What the notebook displays: the page's figure while the static site is built
        (at most 400 kB), a live widget otherwise.

    Raises
    ------
    ValueError
        If there is no parameter or more than two, fewer than two values, more than
        25 frames, an unknown name in ``labels``, ``start`` or ``play``, a parameter
        that ``draw`` does not take, or frames that weigh more than 400 kB or differ in
        size.
    TypeError
        If ``draw`` returns no figure, and then names the parameters of the call; if an
        argument or a value is of another type.
    """
    require_callable(draw=draw)
    for argument, mapping in (("labels", labels), ("start", start)):
        if mapping is not None:
            require_type(Mapping, **{argument: mapping})
    for label in (labels or {}).values():
        require_type(str, labels=label)
    if play is not None:
        require_type(str, play=play)
    _check_values(draw, values)
    names = {name: name.replace("_", " ") for name in values}
    first = {name: offered[0] for name, offered in values.items()}
    for argument, given in (
        ("labels", set(labels or {})),
        ("start", set(start or {})),
        ("play", {play} if play is not None else set()),
    ):
        unknown = given - set(values)
        if unknown:
            raise ValueError(
                f"{argument} names {sorted(unknown)}, allowed are {sorted(values)}"
            )
    names |= labels or {}
    first |= start or {}
    for name, value in first.items():
        if value not in values[name]:
            raise ValueError(
                f"start must be one of the values {list(values[name])} of {name}, "
                f"got {value!r}"
            )
    if progress.building_static_pages():
        return _page_figure(draw, values, names, first, play)
    return _live_widget(draw, values, names, first, play)


def _check_values(
    draw: Callable[..., Drawing], values: Mapping[str, Sequence[Value]]
) -> None:
    if not 1 <= len(values) <= MOST_PARAMETERS:
        raise ValueError(
            f"give values for 1 to {MOST_PARAMETERS} parameters, got {len(values)}: "
            f"{sorted(values)}"
        )
    frames = 1
    for name, offered in values.items():
        require_type(Collection, **{name: offered})
        if isinstance(offered, str) or len(offered) < 2:
            raise ValueError(f"{name} must offer at least two values, got {offered!r}")
        for value in offered:
            require_type((int, float, str, np.number), **{name: value})
        if len(set(offered)) != len(offered):
            raise ValueError(f"{name} offers a value twice: {list(offered)}")
        frames *= len(offered)
    if frames > MOST_FRAMES:
        raise ValueError(
            f"at most {MOST_FRAMES} frames are allowed, got {frames}; "
            "offer fewer values"
        )
    try:
        inspect.signature(draw).bind(**dict.fromkeys(values))
    except TypeError as problem:
        raise ValueError(
            f"draw must take exactly the parameters {sorted(values)}: {problem}"
        ) from problem


def _frame(
    draw: Callable[..., Drawing], names: Mapping[str, str], chosen: Mapping[str, Value]
) -> tuple[Figure, str]:
    """Draw one frame; the figure is closed, so that only we show it."""
    where = ", ".join(f"{names[name]} {_text(value)}" for name, value in chosen.items())
    open_before = set(plt.get_fignums())
    drawing = draw(**chosen)
    match drawing:
        case Figure():
            figure, text = drawing, where
        case (Figure() as figure, str(text)):
            pass
        case _:
            for number in set(plt.get_fignums()) - open_before:
                plt.close(number)
            raise TypeError(
                "draw must return a matplotlib Figure, or a Figure and a text, got "
                f"{drawing!r} at {where}"
            )
    plt.close(figure)
    return figure, text


def _text(value: Value) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=STILL_DPI)
    return buffer.getvalue()


def _svg(figure: Figure) -> str:
    """Draw a figure as SVG, with coordinates to a hundredth of a point."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return PATH.sub(
        lambda path: DECIMALS.sub(lambda x: f"{float(x[0]):.2f}", path[0]),
        buffer.getvalue(),
    )


@dataclass(frozen=True)
class PageFigure:
    """An explorable figure as the static site shows it."""

    page: str
    still: bytes
    text: str

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {
            "text/html": self.page,
            "image/png": base64.b64encode(self.still).decode(),
            "text/plain": self.text,
        }


def _page_figure(
    draw: Callable[..., Drawing],
    values: Mapping[str, Sequence[Value]],
    names: Mapping[str, str],
    first: Mapping[str, Value],
    play: str | None,
) -> PageFigure:
    images, texts, sizes = [], [], set()
    still = b""
    for combination in itertools.product(*values.values()):
        chosen = dict(zip(values, combination, strict=True))
        figure, text = _frame(draw, names, chosen)
        sizes.add(tuple(figure.get_size_inches().tolist()))
        with figures.laid_out(figure):
            images.append(_svg(figure))
            if chosen == dict(first):
                still = _png(figure)
                shown = len(images) - 1
        texts.append(text)
    if len(sizes) > 1:
        raise ValueError(
            f"draw must return figures of one size, got {sorted(sizes)} in"
        )
    page = _page(images, texts, shown, values, names, first, play)
    if len(page) > MOST_BYTES:
        raise ValueError(
            f"the {len(images)} frames weigh {len(page)} bytes, at most {MOST_BYTES} "
            "are allowed; offer fewer values or draw less"
        )
    return PageFigure(page, still, texts[shown])


def _page(
    images: Sequence[str],
    texts: Sequence[str],
    shown: int,
    values: Mapping[str, Sequence[Value]],
    names: Mapping[str, str],
    first: Mapping[str, Value],
    play: str | None,
) -> str:
    frames = json.dumps({"images": images, "texts": texts}).encode()
    identity = hashlib.sha256(frames).hexdigest()[:10]
    # Frames repeat most of one another: one stream for all is far smaller than each.
    packed = base64.b64encode(zlib.compress(frames, 9)).decode()
    first_image = base64.b64encode(images[shown].encode()).decode()
    controls = []
    for name, offered in values.items():
        place = list(offered).index(first[name])
        told = [_text(value) for value in offered]
        control = f"{identity}-{name}"
        controls.append(
            f'<div class="fpbook-explorer-control"><label for="{control}">'
            f"{html.escape(names[name])}</label>"
            f'<input type="range" id="{control}" min="0" max="{len(told) - 1}" '
            f'step="1" value="{place}" aria-valuetext="{html.escape(told[place])}" '
            f'data-values="{html.escape(json.dumps(told))}">'
            f'<output for="{control}">{html.escape(told[place])}</output></div>'
        )
    if play is not None:
        controls.append(
            '<button type="button" class="fpbook-explorer-play" '
            f'aria-controls="{identity}-{play}" data-interval="{PLAY_MILLISECONDS}">'
            "Play</button>"
        )
    title = html.escape("Explore by " + " and ".join(names.values()))
    script = Path(__file__).with_name("explore.js").read_text(encoding="utf-8")
    return (
        f'<div class="fpbook-explorer" role="group" aria-label="{title}">'
        f'<img src="data:image/svg+xml;base64,{first_image}" '
        f'alt="{html.escape(texts[shown])}">'
        f"{''.join(controls)}"
        '<p class="fpbook-explorer-text" aria-live="polite">'
        f"{html.escape(texts[shown])}</p>"
        f'<script type="application/octet-stream">{packed}</script>'
        f"<script>{script}</script></div>"
    )


def _live_widget(
    draw: Callable[..., Drawing],
    values: Mapping[str, Sequence[Value]],
    names: Mapping[str, str],
    first: Mapping[str, Value],
    play: str | None,
) -> Any:
    try:
        import ipywidgets
        from IPython.display import Image, display
    except ImportError as problem:
        raise ImportError(
            "live explorers need ipywidgets: pip install 'fpbook[interactive]'"
        ) from problem

    def show(**chosen: Value) -> None:
        figure, text = _frame(draw, names, chosen)
        display(Image(_png(figure), width=round(96 * figure.get_figwidth())))
        print(text)

    controls = {
        name: _control(ipywidgets, names[name], offered, first[name])
        for name, offered in values.items()
    }
    output = ipywidgets.interactive_output(show, controls)
    shown = list(controls.values())
    if play is not None:
        shown.append(_player(ipywidgets, controls[play], values[play]))
    return ipywidgets.VBox([*shown, output])


def _player(ipywidgets: Any, control: Any, offered: Sequence[Value]) -> Any:
    """Let a button walk a control through the offered values."""
    player = ipywidgets.Play(max=len(offered) - 1, interval=PLAY_MILLISECONDS)

    def follow(change: Mapping[str, int]) -> None:
        control.value = offered[change["new"]]

    player.observe(follow, names="value")
    return player


def _control(ipywidgets: Any, name: str, offered: Sequence[Value], first: Value) -> Any:
    """Choose the slider that covers the continuous range of the offered values."""
    common = {
        "description": name,
        "value": first,
        "continuous_update": False,
        "style": {"description_width": "initial"},
    }
    numbers = [value for value in offered if not isinstance(value, str)]
    if len(numbers) < len(offered):
        return ipywidgets.SelectionSlider(options=list(offered), **common)
    low, high = min(numbers), max(numbers)
    if all(isinstance(value, int) for value in numbers):
        return ipywidgets.IntSlider(min=low, max=high, **common)
    if _is_geometric(numbers):
        return ipywidgets.FloatLogSlider(
            min=np.log10(low),
            max=np.log10(high),
            step=np.log10(high / low) / 200,
            **common,
        )
    return ipywidgets.FloatSlider(
        min=low, max=high, step=(high - low) / 200, readout_format=".3g", **common
    )


def _is_geometric(numbers: Sequence[float]) -> bool:
    """Tell a logarithmic range: ratios of neighbours vary less than differences."""
    ordered = np.sort(np.asarray(numbers, dtype=float))
    if ordered[0] <= 0:
        return False
    ratios, differences = ordered[1:] / ordered[:-1], np.diff(ordered)
    return bool(ratios.max() / ratios.min() < differences.max() / differences.min())
