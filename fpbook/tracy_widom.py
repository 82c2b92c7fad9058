r"""Limit laws of growing surfaces: Tracy-Widom (GUE and GOE) and Baik-Rains.

All three come from one operator on functions of the half-line, the Airy kernel of
Hankel type

.. math:: (B_s f)(x) = \int_0^\infty \mathrm{Ai}(x + y + s)\, f(y)\, dy,

by Fredholm determinants and one inner product with the constant function 1,

.. math::
    F_{GOE} = \det(1 - B_s), \qquad F_{GUE} = \det(1 - B_s^2), \qquad
    F_{BR} = \frac{d}{ds} \bigl[ F_{GUE}\, g \bigr], \qquad
    g = s + 2 \langle 1, B_s (1 + B_s)^{-1} 1 \rangle .

With :math:`a(x) = \mathrm{Ai}(x + s)`, :math:`d_\pm = \langle a, (1 \mp B_s)^{-1} a
\rangle \pm \mathrm{Ai}(s)` and :math:`v = [(1 + B_s)^{-1} 1](0)`, derivatives need no
differences:

.. math::
    (\log \det(1 \mp B_s))' = \tfrac12 d_\pm, \qquad
    (d_+ + d_-)' = - \tfrac12 (d_+ - d_-)^2, \qquad
    g' = v^2, \qquad v' = \tfrac12 (d_+ - d_-)\, v .

The integrals are Gauss-Legendre sums, so that determinants and inverses are those of a
small symmetric matrix; the error falls exponentially with its size (Bornemann).

Sources: Tracy and Widom, Commun. Math. Phys. 159, 151 (1994) and 177, 727 (1996);
Ferrari and Spohn, J. Phys. A 38, L557 (2005), for the GOE determinant; Baik and Rains,
J. Stat. Phys. 100, 523 (2000), and Ferrari and Spohn, Commun. Math. Phys. 265, 1
(2006), for the stationary law; Bornemann, Math. Comp. 79, 871 (2010), for the method.
The form of :math:`g` and the first and third derivative are derived in the chapter *The
log-density is a growing surface: KPZ*; the others are Tracy and Widom's, with
:math:`q = \frac12 (d_+ - d_-)`.
"""

from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.polynomial import Chebyshev
from numpy.polynomial.legendre import leggauss
from numpy.typing import ArrayLike, NDArray
from scipy.special import airy

from fpbook.validation import require_choice, require_real

Array = NDArray[np.float64]

NODES = 64
"""Gauss points on the half-line; 40 leave an error of 1e-10, 64 rounding only."""
TAIL = 16.0
"""The half-line is cut where the Airy function has an argument of 16: 1e-20."""
RANGE = (-10.0, 16.0)
"""Outside, all three laws are 0 or 1 to 1e-16."""
DEGREE = 140
"""Of the interpolating polynomials: their error is below 1e-13."""


@dataclass(frozen=True)
class LimitLaw:
    r"""A law of one real variable, in units where it is parameter-free.

    Values are interpolated between 141 Chebyshev points on [-10, 16], at which they
    are computed by Fredholm determinants; errors are below 1e-12, absolute.

    Attributes
    ----------
    mean, variance
        Moments :math:`\mu`, :math:`\sigma^2`.
    skewness
        :math:`\langle (x - \mu)^3 \rangle / \sigma^3`.
    kurtosis
        Excess kurtosis, :math:`\langle (x - \mu)^4 \rangle / \sigma^4 - 3`.
    """

    mean: float
    variance: float
    skewness: float
    kurtosis: float
    _cdf: Chebyshev = field(repr=False)
    _pdf: Chebyshev = field(repr=False)

    def cdf(self, x: ArrayLike) -> Array:
        """Probability of a value of at most x.

        Parameters
        ----------
        x
            Real numbers, any shape; NaN stays NaN.

        Returns
        -------
        array
            Probabilities, the shape of ``x``.

        Raises
        ------
        ValueError
            If ``x`` is not real.
        """
        clipped, _ = _inside(x)
        probability: Array = np.clip(self._cdf(clipped), 0.0, 1.0)
        return probability

    def pdf(self, x: ArrayLike) -> Array:
        """Density at x.

        Parameters
        ----------
        x
            Real numbers, any shape; NaN stays NaN.

        Returns
        -------
        array
            Densities, the shape of ``x``.

        Raises
        ------
        ValueError
            If ``x`` is not real.
        """
        clipped, outside = _inside(x)
        return np.where(outside, 0.0, np.maximum(self._pdf(clipped), 0.0))


def _inside(x: ArrayLike) -> tuple[Array, NDArray[np.bool_]]:
    values = require_real("x", x)
    clipped = np.clip(values, *RANGE)
    # NaN compares unequal to everything, itself included; it must come out as NaN.
    return clipped, (values < RANGE[0]) | (values > RANGE[1])


def tracy_widom(ensemble: str) -> LimitLaw:
    r"""Tracy-Widom law of the largest eigenvalue of a random matrix.

    .. math:: F_{GUE}(s) = \det(1 - B_s^2), \qquad F_{GOE}(s) = \det(1 - B_s)

    In a surface that grows from a point, or from a plane, the height at a point has the
    fluctuations of ``"GUE"``, or of ``"GOE"``. Source: the module's docstring.

    Parameters
    ----------
    ensemble
        "GUE" (Hermitian matrices) or "GOE" (real symmetric ones).

    Returns
    -------
    LimitLaw
        The law, computed on the first call, in about a second, and kept.

    Raises
    ------
    ValueError
        If the ensemble is another.

    Examples
    --------
    >>> print(f"{tracy_widom('GUE').mean:.10f}")
    -1.7710868074
    """
    require_choice(("GUE", "GOE"), ensemble=ensemble)
    return _law(ensemble)


def baik_rains() -> LimitLaw:
    r"""Baik-Rains law of the height of a surface that is stationary from the start.

    .. math:: F_{BR}(s) = \frac{d}{ds} \bigl[ F_{GUE}(s)\, g(s) \bigr]

    Its mean is 0. Source: the module's docstring.

    Returns
    -------
    LimitLaw
        The law, computed on the first call, in about a second, and kept.

    Examples
    --------
    >>> print(f"{baik_rains().variance:.5f}")
    1.15039
    """
    return _law("Baik-Rains")


@cache
def _law(name: str) -> LimitLaw:
    cdf, pdf = (
        Chebyshev.interpolate(_sampled, DEGREE, RANGE, args=(name, column))
        for column in (0, 1)
    )
    # Exact for the interpolating polynomial times a power up to the fourth.
    nodes, weights = leggauss(DEGREE)
    x = RANGE[0] + (nodes + 1) * (RANGE[1] - RANGE[0]) / 2
    mass = pdf(x) * weights * (RANGE[1] - RANGE[0]) / 2
    mean = mass @ x
    second, third, fourth = (mass @ (x - mean) ** n for n in (2, 3, 4))
    return LimitLaw(
        mean=float(mean),
        variance=float(second),
        skewness=float(third / second**1.5),
        kurtosis=float(fourth / second**2 - 3),
        _cdf=cdf,
        _pdf=pdf,
    )


def _sampled(points: Array, name: str, column: int) -> Array:
    return np.array([_values(name, _airy_quantities(s))[column] for s in points])


class _Airy(NamedTuple):
    """Names as in the module's docstring; the determinants are those of 1 -+ B."""

    minus: float
    plus: float
    d_plus: float
    d_minus: float
    v: float
    g: float


@cache
def _airy_quantities(s: float) -> _Airy:
    nodes, weights = leggauss(NODES)
    length = TAIL - min(s, 0.0)
    x = (nodes + 1) * length / 2
    root = np.sqrt(weights * length / 2)
    # eigh reads the lower triangle, and Airy functions take most of the time.
    rows, columns = np.tril_indices(NODES)
    kernel = np.zeros((NODES, NODES))
    kernel[rows, columns] = (
        root[rows] * airy(x[rows] + x[columns] + s)[0] * root[columns]
    )
    eigenvalues, vectors = np.linalg.eigh(kernel)
    column = vectors.T @ (root * airy(x + s)[0])
    constant = vectors.T @ root
    # Far on the left eigenvalues reach 1 within rounding; the determinants, which go to
    # zero there, make up for the clipped inverse.
    smallest = np.finfo(float).eps
    one_minus = np.maximum(1 - eigenvalues, smallest)
    one_plus = np.maximum(1 + eigenvalues, smallest)
    at_zero = float(airy(s)[0])
    return _Airy(
        minus=float(np.prod(one_minus)),
        plus=float(np.prod(one_plus)),
        d_plus=float(np.sum(column**2 / one_minus)) + at_zero,
        d_minus=float(np.sum(column**2 / one_plus)) - at_zero,
        v=1 - float(np.sum(column * constant / one_plus)),
        g=s + 2 * float(np.sum(constant**2 * eigenvalues / one_plus)),
    )


def _values(name: str, a: _Airy) -> tuple[float, float]:
    gue = a.minus * a.plus
    slope = (a.d_plus + a.d_minus) / 2
    if name == "GOE":
        return a.minus, a.minus * a.d_plus / 2
    if name == "GUE":
        return gue, gue * slope
    return (
        gue * (slope * a.g + a.v**2),
        gue * (a.d_plus * a.d_minus * a.g + 2 * a.d_plus * a.v**2),
    )
