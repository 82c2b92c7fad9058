"""The house style of the book's figures.

A page calls :func:`use_house_style` once. Captions, numbers and alternative texts
are given where the figure stands, by the cell option ``mystnb`` (see the authors'
page); nothing else names a figure.
"""

import math
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
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

        set_matplotlib_formats("svg", "png", bbox_inches=None, metadata={"Date": None})


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
