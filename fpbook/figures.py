"""The house style of the book's figures.

A page calls :func:`use_house_style` once. Captions, numbers and alternative texts
are given where the figure stands, by the cell option ``mystnb`` (see the authors'
page); nothing else names a figure.
"""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from fpbook.validation import (
    require_finite,
    require_real,
    require_type,
)

TEXT_WIDTH = 5.6
"""Width of a figure that fills the text, in inches."""

COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
    "#222222",
)
"""The colour cycle of the house style, for curves that share a meaning."""


RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
"""Digits and the minus sign as exponents."""


def use_house_style() -> None:
    """Load the house style; in a notebook also choose the image formats.

    Notebook figures are written as SVG for the page and as PNG for PDF and Colab,
    without dates, so that the bytes are the same at every run.
    """
    plt.style.use(Path(__file__).with_name("house.mplstyle"))
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython():
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        # One bundle takes the place of a formatter for each format.
        set_matplotlib_formats()
        formatter = sys.modules["IPython"].get_ipython().display_formatter
        formatter.mimebundle_formatter.for_type(Figure, image_bundle)


def image_bundle(figure: Figure) -> dict[str, str]:
    """Give the images by which a notebook shows a figure.

    Parameters
    ----------
    figure
        The figure, laid out once for both.

    Returns
    -------
    dict of str
        By MIME type: the SVG, and the PNG in base64. Empty without axes.

    Raises
    ------
    TypeError
        If it is no figure.
    """
    from IPython.core.pylabtools import print_figure

    require_type(Figure, figure=figure)
    if not figure.axes:
        return {}
    always: dict[str, Any] = {"bbox_inches": None, "metadata": {"Date": None}}
    with laid_out(figure):
        return {
            "image/svg+xml": print_figure(figure, "svg", **always),
            "image/png": print_figure(figure, "png", base64=True, **always),
        }


@contextmanager
def laid_out(figure: Figure) -> Iterator[None]:
    """Arrange the axes of a figure once for all that is written inside of the block.

    Otherwise Matplotlib arranges them anew for every format, and then draws the whole
    figure once without a result and once with it. An SVG has the same bytes as without
    this block.

    Parameters
    ----------
    figure
        The figure; its axes are placed as for an SVG. After the block it has its layout
        engine again.

    Raises
    ------
    TypeError
        If it is no figure.
    """
    require_type(Figure, figure=figure)
    engine = figure.get_layout_engine()
    if engine is None or not figure.axes:
        yield
        return
    canvas, dpi = figure.canvas, figure.dpi
    FigureCanvasSVG(figure)
    try:
        engine.execute(figure)
    finally:
        figure.set_canvas(canvas)
        figure.dpi = dpi
    # Without an engine nothing is drawn in vain; the style would bring a new one.
    with plt.rc_context({"figure.constrained_layout.use": False}):
        figure.set_layout_engine(None)
        try:
            yield
        finally:
            figure.set_layout_engine(engine)


def size(width: float = 1.0, aspect: float = 0.6) -> tuple[float, float]:
    """Give a figure size in inches from its width in text widths.

    Parameters
    ----------
    width
        Width in text widths, > 0 and at most 1.
    aspect
        Height over width, > 0.

    Returns
    -------
    tuple of float
        Width and height in inches, for ``plt.subplots(figsize=...)``.

    Raises
    ------
    ValueError
        If ``width`` is not in (0, 1] or ``aspect`` is not > 0.
    """
    if require_real("width", width).ndim != 0 or not 0 < width <= 1:
        raise ValueError(f"width must be in (0, 1] text widths, got {width}")
    if require_real("aspect", aspect).ndim != 0 or not 0 < aspect < math.inf:
        raise ValueError(f"aspect must be > 0, got {aspect}")
    return TEXT_WIDTH * width, TEXT_WIDTH * width * aspect


def plain_powers(axis: Axis) -> None:
    """Label the decades of a logarithmic axis in plain text, such as 10⁻³.

    Ticks between decades stay without a label.
    Matplotlib sets such labels as formulas, anew in every figure, which takes half of
    the time of a simple frame of an explorer.

    Parameters
    ----------
    axis
        An axis with a logarithmic scale, ``axes.xaxis`` or ``axes.yaxis``.

    Raises
    ------
    TypeError
        If ``axis`` is no axis of Matplotlib.
    """

    require_type(Axis, axis=axis)

    def label(value: float, _: object) -> str:
        power = round(math.log10(value)) if value > 0 else 0
        if not math.isclose(value, 10.0**power, rel_tol=1e-9):
            return ""
        return "10" + str(power).translate(RAISED)

    axis.set_major_formatter(label)
    axis.set_minor_formatter(NullFormatter())


def label_line(axes: Axes, text: str, at: float, offset: float = 4.0) -> None:
    """Write a label in the line's colour at a point of the last line drawn.

    Parameters
    ----------
    axes
        The axes whose last line is labelled.
    text
        The label.
    at
        Where along the line: 0 is its first point, 1 its last.
    offset
        Distance from the line, in points, up and to the right.

    Raises
    ------
    ValueError
        If the axes hold no line or ``at`` is not in [0, 1].
    TypeError
        If ``axes`` are no axes of Matplotlib, or ``text`` is no text.
    """
    require_type(Axes, axes=axes)
    require_type(str, text=text)
    require_finite(offset=offset)
    if not axes.lines:
        raise ValueError("axes hold no line to label")
    if require_real("at", at).ndim != 0 or not 0 <= at <= 1:
        raise ValueError(f"at must be in [0, 1], got {at}")
    line = axes.lines[-1]
    x, y = (np.asarray(values, dtype=float) for values in line.get_data())
    point = round(at * (len(x) - 1))
    axes.annotate(
        text,
        (x[point], y[point]),
        xytext=(offset, offset),
        textcoords="offset points",
        color=line.get_color(),
    )
