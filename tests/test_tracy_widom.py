"""The limit laws against published moments, Painleve II, other kernels, and matrices.

Independent references: the Hastings-McLeod solution of Painleve II, integrated as an
ordinary equation; Fredholm determinants of other kernels, on other points; the known
constants of the tails; eigenvalues of random matrices.
"""

import math
import re
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from numpy.polynomial import Chebyshev
from numpy.polynomial.legendre import leggauss
from scipy.integrate import quad, solve_ivp
from scipy.linalg import eigh_tridiagonal
from scipy.special import airy, itairy

import fpbook.tracy_widom as module
from fpbook.tracy_widom import DEGREE, NODES, RANGE, baik_rains, tracy_widom

# What the module promises of its values.
PROMISED = 1e-12

# Bornemann, Math. Comp. 79, 871 (2010), and Markov Process. Relat. Fields 16, 803
# (2010), for the first two; tables of Praehofer and Spohn for the third.
PUBLISHED = {
    "GUE": (-1.7710868074, 0.8131947928, 0.2240842036, 0.0934480876),
    "GOE": (-1.2065335745, 1.6077810345, 0.2934645240, 0.1652429384),
    "Baik-Rains": (0.0, 1.15039, 0.35941, 0.28916),
}


def law_named(name):
    return baik_rains() if name == "Baik-Rains" else tracy_widom(name)


def moments(law):
    return law.mean, law.variance, law.skewness, law.kurtosis


@pytest.mark.parametrize("name", PUBLISHED)
def test_moments_are_the_published_ones(name):
    # One unit of the last digit in print.
    unit = 1e-5 if name == "Baik-Rains" else 1e-10
    found = moments(law_named(name))
    np.testing.assert_allclose(found, PUBLISHED[name], rtol=0, atol=unit)


def test_stationary_law_has_mean_zero():
    # An integral over 26 units of a density known to 1e-12, times x of a few units.
    assert abs(baik_rains().mean) < 1e-10


@pytest.mark.parametrize("name", PUBLISHED)
def test_moments_are_those_of_the_distribution_function(name):
    # By parts: <x^n> = b^n - n int x^(n-1) F, from below all values to b above them.
    law, (low, b) = law_named(name), RANGE
    x, w = leggauss(200)
    x, w = (low + b) / 2 + (b - low) / 2 * x, (b - low) / 2 * w
    F = law.cdf(x)
    first, second, third, fourth = (
        b**n - n * (w @ (x ** (n - 1) * F)) for n in range(1, 5)
    )
    variance = second - first**2
    central3 = third - 3 * first * second + 2 * first**3
    central4 = fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4
    expected = (
        first,
        variance,
        central3 / variance**1.5,
        central4 / variance**2 - 3,
    )
    # Errors of 1e-14 in F, times 26 units, times n x^(n-1), 16000 at the upper end.
    np.testing.assert_allclose(moments(law), expected, rtol=0, atol=1e-8)


# --- Painleve II --------------------------------------------------------------------


def painleve(points):
    """F and its derivative of all three laws, at decreasing points below 10.

    q'' = s q + 2 q^3 with q ~ Ai; R and E are the integrals of q^2 and (x - s) q^2
    above s, U that of q; g' = exp(-2 U).
    """
    start = 10.0

    def slope(s, y):
        q, p, R, _, U, _ = y
        return p, s * q + 2 * q**3, -(q**2), -R, -q, np.exp(-2 * U)

    value, derivative = airy(start)[:2]
    above = 1 / 3 - itairy(start)[0]
    # g - s vanishes on the right; there 1 - exp(-2 U) is 2 U.
    initial = (
        value,
        derivative,
        derivative**2 - start * value**2,
        0.0,
        above,
        start + 2 * (-derivative - start * above),
    )
    solution = solve_ivp(
        slope,
        (start, points[-1]),
        initial,
        method="DOP853",
        t_eval=points,
        rtol=3e-14,
        atol=1e-24,
    )
    q, _, R, E, U, g = solution.y
    gue, goe, v = np.exp(-E), np.exp(-(U + E) / 2), np.exp(-U)
    return {
        "GUE": (gue, gue * R),
        "GOE": (goe, goe * (q + R) / 2),
        "Baik-Rains": (
            gue * (R * g + v**2),
            gue * ((R**2 - q**2) * g + 2 * R * v**2 + 2 * q * v**2),
        ),
    }


@pytest.mark.parametrize("name", PUBLISHED)
def test_laws_are_those_of_painleve(name):
    # The solution sits on a ridge: an error of 1e-14 grows by exp(2^1.5/3 |s|^1.5),
    # 1e4 at -4.5, where the laws have fallen to 1e-3 and less.
    points = np.linspace(6, -4.5, 43)
    cdf, pdf = painleve(points)[name]
    law = law_named(name)
    np.testing.assert_allclose(law.cdf(points), cdf, rtol=0, atol=2e-11)
    np.testing.assert_allclose(law.pdf(points), pdf, rtol=0, atol=2e-11)
    assert cdf[-1] < 0.02
    assert cdf[0] > 0.999


# --- other kernels, other points ----------------------------------------------------


def determinant(kernel, s):
    """Fredholm determinant on (s, infinity), mapped by a tangent to (-1, 1)."""
    nodes, weights = leggauss(80)
    x = s + 10 * np.tan(np.pi / 4 * (nodes + 1))
    root = np.sqrt(
        weights * 10 * np.pi / 4 / np.cos(np.pi / 4 * (nodes + 1)) ** 2,
    )
    # Beyond 40 the Airy function is 1e-75, and scipy's loses its digits.
    inside = x < 40
    x, root = x[inside], root[inside]
    return np.linalg.det(np.eye(len(x)) - root[:, None] * kernel(x) * root)


def airy_kernel(x):
    value, derivative = airy(x)[:2]
    a, b = np.multiply.outer(value, derivative), np.subtract.outer(x, x)
    diagonal = np.eye(len(x), dtype=bool)
    ratio = (a - a.T) / np.where(diagonal, 1.0, b)
    return np.where(diagonal, derivative**2 - x * value**2, ratio)


def halved_kernel(x):
    return airy(np.add.outer(x, x) / 2)[0] / 2


@pytest.mark.parametrize(
    ("name", "kernel"), [("GUE", airy_kernel), ("GOE", halved_kernel)]
)
def test_laws_are_determinants_of_another_kernel(name, kernel):
    # None of the points is an interpolation node.
    points = np.random.default_rng(0).uniform(-8, 8, 60)
    expected = [determinant(kernel, s) for s in points]
    found = tracy_widom(name).cdf(points)
    np.testing.assert_allclose(found, expected, rtol=0, atol=PROMISED)


def test_more_points_change_nothing(monkeypatch):
    x = np.linspace(*RANGE, 1001)

    def values():
        laws = [law_named(name) for name in PUBLISHED]
        return np.array([[law.cdf(x), law.pdf(x)] for law in laws])

    before = values()
    # Laws of their own, forgotten afterwards.
    for name in ("_law", "_airy_quantities"):
        monkeypatch.setattr(module, name, cache(getattr(module, name).__wrapped__))
    monkeypatch.setattr(module, "NODES", NODES + 20)
    monkeypatch.setattr(module, "TAIL", 20.0)
    monkeypatch.setattr(module, "DEGREE", DEGREE + 31)
    after = values()
    # Nothing is the same but by accuracy.
    assert np.mean(before == after) < 0.5
    np.testing.assert_allclose(before, after, rtol=0, atol=PROMISED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_density_is_the_slope_of_the_distribution(name):
    law = law_named(name)
    slope = Chebyshev.interpolate(law.cdf, 180, (-9, 9)).deriv()
    x = np.linspace(-8.5, 8.5, 400)
    # Away from the ends a derivative multiplies 1e-15 by the degree at most.
    np.testing.assert_allclose(law.pdf(x), slope(x), rtol=0, atol=PROMISED)


# --- tails --------------------------------------------------------------------------

ZETA = -0.1654211437004509
"""Derivative of Riemann's zeta function at -1."""


def test_left_tail_of_gue():
    # Deift, Its and Krasovsky, Commun. Math. Phys. 278, 643 (2008): the constant.
    s = np.array([4.0, 5.0, 6.0])
    leading = 2 ** (1 / 24) * np.exp(ZETA - s**3 / 12) / s**0.125
    ratio = tracy_widom("GUE").cdf(-s) / leading
    # The next term of the series is 3 / 64 s^3, the one after it of order s^-6.
    np.testing.assert_allclose(ratio, 1 + 3 / (64 * s**3), rtol=0, atol=4 / s[0] ** 6)


def test_left_tail_of_goe():
    # Baik, Buckingham and DiFranco, Commun. Math. Phys. 280, 463 (2008).
    s = np.array([5.0, 6.0, 7.0])
    exponent = -(s**3) / 24 - s**1.5 / (3 * math.sqrt(2))
    leading = 2 ** (-11 / 48) * np.exp(ZETA / 2 + exponent) / s ** (1 / 16)
    ratio = tracy_widom("GOE").cdf(-s) / leading
    # The next term, then 55 / 1152 s^-3 or so: 4e-4 at 5; the law has lost digits to
    # 1e-12 / F = 1e-5.
    next_term = -1 / (24 * math.sqrt(2) * s**1.5)
    np.testing.assert_allclose(ratio, 1 + next_term, rtol=0, atol=6e-4)


@pytest.mark.parametrize("s", [2.0, 3.0, 4.0, 5.0])
def test_right_tails(s):
    # 1 - det(1 - K) is the trace of K, to half its square.
    square = quad(lambda u: u * airy(u + s)[0] ** 2, 0, 20, epsabs=1e-16)[0]
    single = quad(lambda u: airy(2 * u + s)[0], 0, 12, epsabs=1e-16)[0]
    for name, trace in (("GUE", square), ("GOE", single)):
        above = 1 - tracy_widom(name).cdf(s)
        assert above == pytest.approx(trace, abs=trace**2 / 2 + PROMISED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_no_probability_outside(name):
    law, (low, high) = law_named(name), RANGE
    # Left of -10 there is less than exp(-1000 / 24), 1e-18.
    below, above = [-math.inf, low - 5, low], [high, high + 5, math.inf]
    np.testing.assert_allclose(law.cdf(below), 0, rtol=0, atol=PROMISED)
    np.testing.assert_allclose(law.cdf(above), 1, rtol=0, atol=PROMISED)
    assert np.all(law.pdf([*below[:2], *above[1:]]) == 0)
    np.testing.assert_allclose(law.pdf([low, high]), 0, rtol=0, atol=PROMISED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_distribution_rises_from_0_to_1(name):
    law, x = law_named(name), np.linspace(-12, 18, 3001)
    F, f = law.cdf(x), law.pdf(x)
    assert F.min() >= 0
    assert F.max() <= 1
    assert f.min() >= 0
    # It rises but for the error of the values.
    assert np.diff(F).min() > -PROMISED
    # A single peak: no ripples above the error of the values.
    peak = np.argmax(f)
    assert np.diff(f[:peak]).min() > -PROMISED
    assert np.diff(f[peak:]).max() < PROMISED


numbers = st.floats(-1e6, 1e6)


@given(x=numbers, y=numbers, name=st.sampled_from([*PUBLISHED]))
def test_distribution_is_monotone(x, y, name):
    law = law_named(name)
    low, high = law.cdf([min(x, y), max(x, y)])
    assert 0 <= low <= high + PROMISED <= 1 + PROMISED
    assert law.pdf(x) >= 0


@given(
    shape=array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    name=st.sampled_from([*PUBLISHED]),
)
def test_shapes_are_kept(shape, name):
    law = law_named(name)
    x = np.linspace(-4, 4, math.prod(shape)).reshape(shape)
    for function in (law.cdf, law.pdf):
        assert np.shape(function(x)) == shape
        flat = np.reshape([function(value) for value in x.ravel()], shape)
        np.testing.assert_array_equal(function(x), flat)


@pytest.mark.parametrize("name", PUBLISHED)
def test_no_number_stays_no_number(name):
    law = law_named(name)
    for function in (law.cdf, law.pdf):
        np.testing.assert_array_equal(
            np.isnan(function([math.nan, 0.0, math.nan])), [True, False, True]
        )
        assert np.isnan(function(math.nan))


# --- random matrices ----------------------------------------------------------------


@pytest.mark.parametrize(("name", "beta"), [("GUE", 2), ("GOE", 1)])
def test_largest_eigenvalue_of_random_matrices(name, beta):
    # Dumitriu and Edelman, J. Math. Phys. 43, 5830 (2002): a tridiagonal matrix has
    # the eigenvalues of a full one; they scale as in Johnstone and Ma, Ann. Appl.
    # Probab. 22, 1962 (2012), where half a row less makes the error n^(-2/3) for GOE.
    n, samples, rng = 200, 2000, np.random.default_rng(beta)
    diagonal = rng.normal(size=(samples, n))
    chi = np.sqrt(rng.chisquare(beta * np.arange(n - 1, 0, -1), (samples, n - 1)) / 2)
    scale = math.sqrt(2 / beta)
    largest = scale * np.array(
        [
            eigh_tridiagonal(
                d, e, eigvals_only=True, select="i", select_range=(n - 1, n - 1)
            )[0]
            for d, e in zip(diagonal, chi, strict=True)
        ]
    )
    rows = n if beta == 2 else n - 0.5
    scaled = (largest - 2 * math.sqrt(rows)) * rows ** (1 / 6)
    law = tracy_widom(name)
    # Four standard errors, and n^(-2/3) = 0.03 for the size of the matrices.
    finite = n ** (-2 / 3)
    error = scaled.std() / math.sqrt(samples)
    assert abs(scaled.mean() - law.mean) < 4 * error + finite
    spread = math.sqrt((law.kurtosis + 2) / samples)
    assert abs(scaled.var() / law.variance - 1) < 4 * spread + finite
    for level in (0.1, 0.5, 0.9):
        cut = np.interp(level, law.cdf(GRID), GRID)
        share = np.mean(scaled <= cut)
        tolerance = 4 * math.sqrt(level * (1 - level) / samples)
        assert abs(share - level) < tolerance + law.pdf(cut) * finite


GRID = np.linspace(-6, 4, 10_001)


# --- arguments ----------------------------------------------------------------------


@pytest.mark.parametrize("ensemble", ["GSE", "gue", "Baik-Rains", None])
def test_other_ensembles_are_refused(ensemble):
    allowed = re.escape("('GUE', 'GOE')")
    with pytest.raises(
        ValueError, match=f"^ensemble must be one of {allowed}, got {ensemble!r}$"
    ):
        tracy_widom(ensemble)


def test_laws_are_kept():
    assert tracy_widom("GUE") is tracy_widom("GUE")
    assert baik_rains() is baik_rains()
