"""Limit laws of growing surfaces: computing them, and evaluating one at many points."""

from functools import cache

import numpy as np
from numpy.polynomial import Chebyshev
from numpy.polynomial.legendre import leggauss
from numpy.typing import NDArray
from scipy.special import airy

import fpbook.tracy_widom as laws
from benchmarks.harness import Case, Peer, Run, Target
from fpbook.tracy_widom import baik_rains, tracy_widom

Array = NDArray[np.float64]

CHECKED = 40
"""Points at which a law is compared with the exact one."""

# --- the exact laws -----------------------------------------------------------------


@cache
def _determinant(name: str, s: float) -> float:
    """Fredholm determinant on 100 points of (s, infinity), mapped by a tangent.

    The kernel is (Ai(x) Ai'(y) - Ai'(x) Ai(y)) / (x - y) for GUE and
    Ai((x + y) / 2) / 2 for GOE.
    """
    nodes, weights = leggauss(100)
    angle = np.pi / 4 * (nodes + 1)
    x = s + 10 * np.tan(angle)
    root = np.sqrt(weights * 10 * np.pi / 4) / np.cos(angle)
    # Beyond 40 the Airy function is 1e-75.
    x, root = x[x < 40], root[x < 40]
    if name == "GOE":
        kernel = airy(np.add.outer(x, x) / 2)[0] / 2
    else:
        value, slope = airy(x)[:2]
        product = np.multiply.outer(value, slope)
        distance = np.subtract.outer(x, x) + np.eye(len(x))
        kernel = (product - product.T) / distance
        np.fill_diagonal(kernel, slope**2 - x * value**2)
    return float(np.linalg.det(np.eye(len(x)) - root[:, None] * kernel * root))


# --- many points --------------------------------------------------------------------


def _points(count: int) -> Array:
    return np.linspace(-8, 6, count)


def _known_law(count: int) -> Run:
    law, points = tracy_widom("GUE"), _points(count)
    return lambda: law.cdf(points)


def _determinants(count: int) -> Run:
    """A determinant of 40 Gauss points on (s, s + 16) for each point."""
    points = _points(count)
    nodes, weights = leggauss(40)

    def run() -> Array:
        found = []
        for s in points:
            length = max(16.0 - s, 10.0)
            x, root = s + (nodes + 1) * length / 2, np.sqrt(weights * length / 2)
            value, slope = airy(x)[:2]
            product = np.multiply.outer(value, slope)
            distance = np.subtract.outer(x, x) + np.eye(40)
            kernel = (product - product.T) / distance
            np.fill_diagonal(kernel, slope**2 - x * value**2)
            matrix = np.eye(40) - root[:, None] * kernel * root
            found.append(np.linalg.det(matrix))
        return np.array(found)

    return run


def _table(count: int) -> Run:
    from TracyWidom import TracyWidom

    law, points = TracyWidom(beta=2), _points(count)
    return lambda: np.asarray(law.cdf(points))


def _error_at_points(probabilities: Array, count: int) -> float:
    some = np.linspace(0, count - 1, CHECKED).astype(int)
    exact = np.array([_determinant("GUE", s) for s in _points(count)[some]])
    return float(np.abs(probabilities[some] - exact).max())


# --- the laws themselves ------------------------------------------------------------

LAWS = {
    "GUE": lambda: tracy_widom("GUE"),
    "GOE": lambda: tracy_widom("GOE"),
    "Baik-Rains": baik_rains,
}
AT = np.linspace(-6, 4, CHECKED)


def _from_nothing(count: int) -> Run:
    def run() -> Array:
        laws._law.cache_clear()
        laws._airy_quantities.cache_clear()
        return np.stack([make().cdf(AT) for make in list(LAWS.values())[:count]])

    return run


def _interpolated(count: int) -> Run:
    """Interpolate determinants of 100 points; the density is a derivative."""

    def run() -> Array:
        found = []
        for name in list(LAWS)[:count]:
            law = Chebyshev.interpolate(_determinants_at, 140, [-10, 16], args=(name,))
            law.deriv()
            found.append(law(AT))
        return np.stack(found)

    return run


def _determinants_at(points: Array, name: str) -> Array:
    return np.array([_determinant.__wrapped__(name, s) for s in points])


def _error_of_laws(found: Array, _: int) -> float:
    """Of those two that have a determinant of their own; the third builds on them."""
    worst = 0.0
    for name, law in zip(("GUE", "GOE"), found, strict=False):
        exact = np.array([_determinant(name, s) for s in AT])
        worst = max(worst, float(np.abs(law - exact).max()))
    return worst


CASES = (
    Case(
        name="a law at many points",
        module="tracy_widom",
        kernel="LimitLaw.cdf",
        measures="The Tracy-Widom law of GUE, known before, at points from -8 to 6.",
        size_name="points",
        sizes=(100, 1_000, 10_000, 100_000, 1_000_000),
        setup=_known_law,
        exact="a Fredholm determinant on other points",
        error_name="largest error",
        error=_error_at_points,
        tolerance=1e-12,
        reference=Peer("scipy, a determinant each", _determinants, largest=1_000),
        peers=(Peer("TracyWidom", _table, "TracyWidom"),),
        target=Target(size=1_000, error=1e-12),
    ),
    Case(
        name="laws from nothing",
        module="tracy_widom",
        kernel="tracy_widom, baik_rains",
        measures="The first call for the laws of GUE, GOE and Baik-Rains, in turn.",
        size_name="laws",
        sizes=(1, 2, 3),
        setup=_from_nothing,
        exact="a Fredholm determinant on other points",
        error_name="largest error",
        error=_error_of_laws,
        tolerance=1e-12,
        reference=Peer("scipy, determinants interpolated", _interpolated, largest=2),
        target=Target(size=1, seconds=1.0, error=1e-12),
    ),
)
