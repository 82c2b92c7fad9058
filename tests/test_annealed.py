"""Annealed theory: closed forms, limits, identities, the equations by themselves."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import integrate
from scipy.optimize import brentq, root
from scipy.special import logsumexp

from fpbook import annealed as module
from fpbook.annealed import (
    annealed_exponent,
    critical_gains,
    paramagnet,
    single_site_law,
    trivial_weight,
)

# --- by themselves: the module's formulas, unscaled, by another quadrature -----------


def logarithm_and_means(exponent, width, *observables):
    """Logarithm of the integral of exp(exponent(x)), and averages, by quad."""
    grid = np.linspace(-25 * width, 25 * width, 20001)
    values = exponent(grid)
    highest = values.max()
    kept = grid[values > highest - 45]
    inside = np.linspace(kept[0], kept[-1], 9)

    def integral(f):
        pieces = [
            integrate.quad(f, *piece, epsabs=0, epsrel=1e-12, limit=200)[0]
            for piece in itertools.pairwise(inside)
        ]
        return math.fsum(pieces)

    def density(x):
        return math.exp(exponent(x) - highest)

    total = integral(density)
    # Observables are even, so that their integrals do not cancel to 0.
    means = [integral(lambda x, f=f: f(x) * density(x)) / total for f in observables]
    return highest + math.log(total), np.array(means)


def one_neuron(q, r, qhat, g, gamma, T):
    """Right sides of the equations of q, r and qhat, and the log_weight."""
    s, pull = T + g**2 * q, g**2 * gamma * r

    def y(x):
        return x - pull * np.tanh(x)

    logarithm, (second, mixed, square) = logarithm_and_means(
        lambda x: -(y(x) ** 2) / (2 * s) + qhat * np.tanh(x) ** 2,
        s**0.5,
        lambda x: np.tanh(x) ** 2,
        lambda x: y(x) * np.tanh(x),
        lambda x: y(x) ** 2,
    )
    log_weight = logarithm - math.log(2 * math.pi * s) / 2
    log_weight -= qhat * q + gamma * (g * r) ** 2 / 2
    return [second, mixed / s, g**2 / 2 * (square / s**2 - 1 / s)], log_weight


POINTS = [
    (1.2, 0.0, 0.1),
    (0.6, 0.5, 0.3),
    (1.0, 0.5, 1e-3),
    (0.75, 1.0, 1e-2),
    (2.0, -0.5, 0.1),
    (3.0, -1.0, 0.5),
]


@pytest.mark.parametrize("point", [*POINTS, (0.74, 0.5, 1e-6), (1.8, -0.5, 1e-5)])
def test_equations_and_weight_by_another_quadrature(point):
    for cold in (False, True):
        found = paramagnet(*point, cold=cold)
        right, log_weight = one_neuron(found.q, found.r, found.qhat, *point)
        # Residuals of 1e-10 and quad to 1e-12, both relative; qhat is a difference of
        # two terms near g^2 / 2 s.
        assert right[:2] == pytest.approx([found.q, found.r], rel=1e-9)
        scale = point[0] ** 2 / (point[2] + point[0] ** 2 * found.q)
        assert right[2] == pytest.approx(found.qhat, abs=1e-9 * scale)
        assert found.log_weight == pytest.approx(log_weight, abs=1e-9)


def activity_without_symmetry(g, temperature):
    """Root of q = E tanh^2(sqrt(g^2 q + T) z), by bisection."""
    z = np.linspace(-9, 9, 4001)
    weight = np.exp(-(z**2) / 2)
    weight /= weight.sum()

    def defect(q):
        return weight @ np.tanh((g**2 * q + temperature) ** 0.5 * z) ** 2 - q

    return brentq(defect, 1e-9, 1, xtol=1e-15)


@pytest.mark.parametrize("temperature", [3.0, 0.3, 1e-2, 1e-4])
@pytest.mark.parametrize("g", [0.6, 1.0, 1.2, 2.0])
def test_independent_couplings_have_a_closed_form(g, temperature):
    found = paramagnet(g, 0.0, temperature)
    # The residual of 1e-10 bounds what an error can be.
    assert found.q == pytest.approx(activity_without_symmetry(g, temperature), abs=1e-9)
    assert found.r + found.q == pytest.approx(1, abs=1e-10)
    assert temperature * found.qhat == pytest.approx(0, abs=1e-10)
    assert found.log_weight == pytest.approx(0, abs=1e-10)


# --- dossier: values measured with an earlier, separate program ----------------------


@pytest.mark.parametrize(
    ("g", "gamma", "weight"),
    [(0.8, 0.5, 0.2023), (2, 0, -0.3181), (1.6, -0.5, -0.34), (0.6, 1, 0.3164)],
)
def test_weight_of_the_origin(g, gamma, weight):
    assert trivial_weight(g, gamma) == pytest.approx(weight, abs=5.1e-5)


@pytest.mark.parametrize(
    ("g", "gamma", "expected"),
    [
        (1.2, 0.0, 0.17327),
        (1.5, 0.0, 0.3526),
        (2.0, 0.0, 0.53037),
        (3.0, 0.0, 0.7006),
        (0.9, 0.5, 0.0842),
        (1.0, 0.5, 0.1737),
        (1.2, 0.5, 0.316),
        (1.5, 0.5, 0.4627),
        (0.8, 1.0, 0.0962),
        (1.0, 1.0, 0.2693),
        (1.5, 1.0, 0.5244),
    ],
)
def test_activity_without_temperature(g, gamma, expected):
    # Half a unit of the last digit that is given, and at most 1e-4.
    assert paramagnet(g, gamma, 0.0).q == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("g", "gamma", "q", "energy"),
    [
        (0.9, 0.0, 0.1654, 1),
        (1.2, 0.0, 0.27, 1),
        (0.8, 0.5, 0.2151, 0.9402),
        (1.0, 0.5, 0.2966, 0.9426),
        (0.75, 1.0, 0.2575, 0.8890),
        (2.0, -0.5, 0.355, 1.0555),
    ],
)
def test_activity_and_energy_at_a_tenth(g, gamma, q, energy):
    found = paramagnet(g, gamma, 0.1)
    assert found.q == pytest.approx(q, abs=5e-4 if gamma < 0 else 5e-5)
    assert 1 + 2 * 0.1 * found.qhat / g**2 == pytest.approx(energy, abs=5e-5)


@pytest.mark.parametrize(
    ("g", "gamma", "q"),
    [(0.74, 0.5, 8.848e-4), (0.6, 1.0, 1.0385e-3), (1 / 1.5, 0.5, 1.183e-4)],
)
def test_activity_at_a_millionth(g, gamma, q):
    assert paramagnet(g, gamma, 1e-6).q == pytest.approx(q, rel=5e-4)


# --- low temperatures ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("g", "gamma", "exponent", "within"),
    [
        # Corrections are of the relative order T, or T^(1/2) at the edge without
        # symmetry and in the window, T^(1/3) or T^(1/4) at the other edges.
        (0.6, 0.0, 1, 1e-5),
        (0.6, 0.5, 1, 1e-4),
        (1.5, -0.5, 1, 1e-4),
        (1.0, 0.0, 1 / 2, 1e-3),
        (1 / 1.5, 0.5, 2 / 3, 5e-3),
        (0.5, 1.0, 3 / 4, 2e-2),
        (0.74, 0.5, 1 / 2, 2e-3),
        (0.6, 1.0, 1 / 2, 2e-3),
        (1.5**-0.5, 0.5, 1 / 3, 5e-3),
    ],
)
def test_powers_of_the_temperature(g, gamma, exponent, within):
    q = paramagnet(g, gamma, [1e-4, 1e-6, 1e-8]).q
    powers = np.log10(q[:-1] / q[1:]) / 2
    assert powers[1] == pytest.approx(exponent, abs=within)
    assert abs(powers[1] - exponent) < abs(powers[0] - exponent)


def converges_to_one(ratio):
    """At 1e-6, 1e-7 and 1e-8, with what remains falling by a constant factor."""
    first, second, third = np.abs(ratio - 1)
    return third < second < first and third < 0.01


@pytest.mark.parametrize(("g", "gamma"), [(0.74, 0.5), (0.6, 1.0), (0.9, 0.2)])
def test_activity_and_response_between_the_two_gains(g, gamma):
    T = np.array([1e-6, 1e-7, 1e-8])
    edge, weight = critical_gains(gamma)
    assert edge < g < weight
    found = paramagnet(g, gamma, T)
    law = np.sqrt(T * (g**2 - edge**2) / (2 * g**2 * (weight**2 - g**2)))
    assert converges_to_one(found.q / law)
    assert converges_to_one(found.r * g**2 * (1 + gamma))


@pytest.mark.parametrize(("g", "gamma"), [(0.6, 0.5), (0.45, 1.0), (1.5, -0.5)])
def test_activity_and_response_below_the_edge(g, gamma):
    r = (1 - math.sqrt(1 - 4 * g**2 * gamma)) / (2 * g**2 * gamma)
    found = paramagnet(g, gamma, 1e-8)
    # Corrections are of the order T / (distance from the edge)^2.
    assert found.r == pytest.approx(r, rel=1e-5)
    assert found.q == pytest.approx(1e-8 * r**2 / (1 - g**2 * r**2), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.2, 0.5, 0.8])
def test_activity_at_the_edge(gamma):
    T = np.array([1e-6, 1e-7, 1e-8])
    law = (1 + gamma) * ((1 - gamma) / (2 * gamma)) ** (1 / 3) * T ** (2 / 3)
    ratio = paramagnet(critical_gains(gamma)[0], gamma, T).q / law
    # Corrections fall as T^(1/3), by 2.15 in a decade.
    error = np.abs(ratio - 1)
    assert error[0] / error[1] == pytest.approx(10 ** (1 / 3), rel=0.1)
    assert error[1] / error[2] == pytest.approx(10 ** (1 / 3), rel=0.1)


def test_activity_at_the_edge_without_symmetry():
    T = np.array([1e-6, 1e-7, 1e-8])
    assert converges_to_one(paramagnet(1.0, 0.0, T).q / np.sqrt(T / 2))


@pytest.mark.parametrize(
    ("g", "gamma", "within"),
    [
        # T is 1e-9; corrections are of the order T, except in the window, T^(1/2).
        (0.5, 0.3, 1e-7),
        (0.74, 0.5, 1e-3),
        (1.0, 0.5, 1e-7),
        (1.3, 0.0, 1e-7),
        (0.9, 1.0, 1e-6),
        (3.0, -0.5, 1e-7),
    ],
)
def test_zero_temperature_is_the_limit(g, gamma, within):
    low, zero = paramagnet(g, gamma, 1e-9), paramagnet(g, gamma, 0.0)
    for name in ("q", "r", "log_weight", "stability"):
        assert getattr(zero, name) == pytest.approx(getattr(low, name), abs=within)
    assert np.isnan(zero.qhat) == (zero.q == 0)
    assert zero.residual < 1e-10


@pytest.mark.parametrize("gamma", [0.0, 0.2, 0.5, 1.0, -0.5])
def test_all_weight_is_on_the_origin_up_to_a_gain(gamma):
    edge, weight = critical_gains(gamma)
    last = edge if gamma < 0 else weight
    gains = np.array([0.5 * edge, (edge + last) / 2, 0.999 * last, 1.001 * last])
    found = paramagnet(gains, gamma, 0.0)
    assert list(found.q == 0) == [True, True, True, False]
    assert found.log_weight[:3] == pytest.approx(trivial_weight(gains[:3], gamma))
    # Up to where the activity leaves 0, linearly; there it jumps if gamma < 0.
    if gamma >= 0:
        assert found.q[3] < 2e-3
        assert found.log_weight[3] > trivial_weight(gains[3], gamma)


@pytest.mark.parametrize("gamma", [-0.5, -0.9])
def test_zero_temperature_is_the_limit_of_the_small_solution(gamma):
    g = 0.9 / (1 + gamma)
    low, zero = (paramagnet(g, gamma, T, cold=True) for T in (1e-9, 0.0))
    for name in ("q", "r", "log_weight", "stability"):
        # Corrections are of the order T / (distance from the edge)^2.
        assert getattr(zero, name) == pytest.approx(getattr(low, name), abs=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_response_without_temperature_has_its_cusp_at_the_edge(gamma):
    edge, _ = critical_gains(gamma)
    below, at, above = paramagnet(
        edge * np.array([1 - 1e-12, 1, 1 + 1e-12]), gamma, 0
    ).r
    # Below the edge it is a root of the distance if gamma = 1: 1e-6 of it remains.
    assert at == pytest.approx(1 + gamma, rel=1e-12)
    assert below == pytest.approx(1 + gamma, rel=1e-5)
    assert above == pytest.approx(1 + gamma, rel=1e-5)


@given(
    st.floats(0.2, 3.0),
    st.floats(-1.0, 1.0),
    st.floats(-7, 1).map(lambda power: 10**power),
)
@example(1.0, 0.0, 1e-7)
@example(0.5, 1.0, 1e-7)
@example(3.0, -1.0, 1e-7)
@settings(max_examples=15, deadline=None)
def test_bounds(g, gamma, temperature):
    found = paramagnet(g, gamma, [temperature, 2 * temperature])
    assert np.all(found.residual < 1e-10)
    assert np.all((found.q > 0) & (found.q < 1))
    # Below 1 + gamma, the response at the edge; it can only be smaller if gamma < 0.
    assert np.all((found.r > 0) & (found.r < 1 + max(gamma, 0)))
    # The symmetry alone makes the energy differ from T / 2.
    assert np.all(found.qhat * gamma <= 1e-8)
    if gamma >= 0:
        assert np.all(found.stability < 1)
        assert found.q[1] > found.q[0]


@given(st.floats(0.3, 2.5), st.floats(-0.9, 1.0), st.floats(0.05, 2.0))
@example(1.0, 0.5, 1e-2)
@settings(max_examples=6, deadline=None)
def test_derivatives_of_the_weight(g, gamma, T):
    """The weight is stationary: only what it depends on explicitly changes it."""
    h = 1e-4
    up = 1 + h, 1 - h
    by_T = paramagnet(g, gamma, np.multiply(T, up)).log_weight
    by_g = paramagnet(np.multiply(g, up), gamma, T).log_weight
    by_gamma = paramagnet(g, gamma + h * np.array([0, -1, -2]), T).log_weight
    found = paramagnet(g, gamma, T)
    # Differences have errors of h^2 = 1e-8 and rounding of 1e-15 / h.
    assert -np.diff(by_T)[0] / (2 * h) == pytest.approx(
        T * found.qhat / g**2, abs=1e-7, rel=1e-6
    )
    assert -np.diff(by_g)[0] / (2 * h) == pytest.approx(
        gamma * (g * found.r) ** 2 + 2 * found.q * found.qhat, abs=1e-7, rel=1e-6
    )
    one_sided = (3 * by_gamma[0] - 4 * by_gamma[1] + by_gamma[2]) / (2 * h)
    assert one_sided == pytest.approx((g * found.r) ** 2 / 2, abs=1e-7, rel=1e-6)


# --- stability ----------------------------------------------------------------------


def leading_eigenvalue(found, g, gamma):
    """The matrix of (Q, R, Qhat), with its dimensions, by the characteristic roots."""
    A, B, D = found.q, found.r, 2 * found.qhat / g**2
    k = g**2
    return max(
        np.roots(
            np.poly(
                [
                    [k * B**2, 2 * k * gamma * A * B, A**2],
                    [k * D * B, k * gamma * (D * A + B**2), A * B],
                    [k**2 * D**2, 2 * k**2 * gamma * D * B, k * B**2],
                ]
            )
        ).real
    )


@pytest.mark.parametrize("point", POINTS)
def test_stability_is_an_eigenvalue(point):
    g, gamma, _ = point
    found = paramagnet(*point)
    expected = leading_eigenvalue(found, g, gamma)
    # Two equal roots, as without symmetry, are found to the root of rounding.
    assert found.stability == pytest.approx(expected, abs=1e-6)


def test_stability_without_symmetry_is_the_edge_of_chaos():
    # One parameter, (g r)^2, where qhat and gamma are 0.
    for g, T in ((0.7, 0.0), (0.7, 0.1), (1.3, 0.1), (2.0, 1e-3)):
        found = paramagnet(g, 0.0, T)
        assert found.stability == pytest.approx((g * found.r) ** 2, abs=1e-6)


@pytest.mark.parametrize(
    ("gamma", "largest"), [(0.0, 0.986), (0.5, 0.980), (1.0, 0.974)]
)
def test_largest_eigenvalue_at_a_thousandth(gamma, largest):
    # The dossier's maximum over g; 0.001 is its last digit.
    gains = np.linspace(0.8, 1.3, 51) * critical_gains(gamma)[1]
    found = paramagnet(gains, gamma, 1e-3).stability.max()
    assert found == pytest.approx(largest, abs=1e-3)


# --- two solutions ------------------------------------------------------------------


@pytest.mark.parametrize(("g", "gamma", "T"), [(1.8, -0.5, 1e-4), (5.0, -0.9, 1e-2)])
def test_two_solutions_below_the_critical_gain(g, gamma, T):
    large, small = paramagnet(g, gamma, T), paramagnet(g, gamma, T, cold=True)
    assert small.q < 0.1 * large.q
    assert small.stability < 1 < large.stability
    assert large.log_weight > small.log_weight
    assert large.residual < 1e-10
    assert small.residual < 1e-10


def test_small_solution_ends():
    T = np.geomspace(1e-5, 0.1, 9)
    large, small = paramagnet(1.9, -0.5, T), paramagnet(1.9, -0.5, T, cold=True)
    ended = np.isclose(large.q, small.q, rtol=1e-9)
    assert not ended[0]
    assert ended[-1]
    assert np.all(np.diff(ended.astype(int)) >= 0)
    for name in ("r", "qhat", "log_weight", "stability"):
        found = getattr(small, name)[ended], getattr(large, name)[ended]
        assert found[0] == pytest.approx(found[1], rel=1e-8)


@pytest.mark.parametrize(("g", "gamma"), [(1.5, -0.5), (3.0, -1.0)])
def test_one_solution_from_both_sides(g, gamma):
    T = [1e-6, 1e-3, 0.1, 5.0]
    large, small = paramagnet(g, gamma, T), paramagnet(g, gamma, T, cold=True)
    assert large.q == pytest.approx(small.q, rel=1e-8)
    assert large.log_weight == pytest.approx(small.log_weight, abs=1e-9)


def test_large_solution_ends():
    # Followed from above it is lost at about T = 0.2; the other one is there.
    T = np.array([1e-3, 0.1, 0.5])
    large, small = paramagnet(6.3, -1.0, T), paramagnet(6.3, -1.0, T, cold=True)
    assert large.q == pytest.approx(small.q, rel=1e-8)


def test_points_do_not_depend_on_their_company():
    g, gamma, T = np.meshgrid([0.7, 1.2], [-0.5, 0.5], [0.0, 1e-3, 0.4], indexing="ij")
    together = paramagnet(g, gamma, T)
    assert all(values.shape == g.shape for values in together)
    for index in np.ndindex(g.shape):
        alone = paramagnet(g[index], gamma[index], T[index])
        assert together.q[index] == pytest.approx(alone.q, abs=1e-9)
        assert together.r[index] == pytest.approx(alone.r, abs=1e-9)
        assert together.log_weight[index] == pytest.approx(alone.log_weight, abs=1e-9)


# --- one neuron ---------------------------------------------------------------------


@pytest.mark.parametrize("point", [*POINTS, (0.74, 0.5, 1e-6), (2.0, 0.5, 1e-4)])
def test_law_of_one_neuron(point):
    g, gamma, T = point
    found = paramagnet(*point)
    x, density = single_site_law(found.q, found.r, found.qhat, *point)
    assert x.shape == density.shape == (4801,)
    spacing = x[1] - x[0]
    phi, s = np.tanh(x), T + g**2 * found.q
    pull = g**2 * gamma * found.r
    y, slope = x - pull * phi, 1 - phi**2
    weight = spacing * density
    assert weight.sum() == pytest.approx(1, abs=1e-12)
    assert density == pytest.approx(density[::-1])
    # Sums are as exact as the parameters, 1e-10.
    assert weight @ phi**2 == pytest.approx(found.q, rel=1e-9)
    assert weight @ (y * phi) / s == pytest.approx(found.r, rel=1e-9)
    # Integrals by parts, of x and of phi, with force = minus the exponent's derivative.
    force = y * (1 - pull * slope) / s - 2 * found.qhat * phi * slope
    assert weight @ (x * force) == pytest.approx(1, abs=1e-9)
    assert weight @ (phi * force) == pytest.approx(1 - found.q, abs=1e-9)


def test_law_of_one_neuron_is_wide_enough():
    # Two peaks far apart, where the pull is strong.
    x, density = single_site_law(0.9, 1.0, 0.5, 4.0, 1.0, 0.1)
    assert density[0] < 1e-15 * density.max()
    assert abs(x[density.argmax()]) == pytest.approx(16, rel=1e-2)


def test_law_of_one_neuron_needs_a_width():
    with pytest.raises(ValueError, match=r"^s must be finite and > 0, got 0"):
        single_site_law(0.0, 1.0, 0.0, 0.7, 0.5, 0.0)


# --- weight of the origin -----------------------------------------------------------


@pytest.mark.parametrize(
    ("g", "gamma"),
    [(0.8, 0.5), (2.0, 0.0), (1.6, -0.5), (0.6, 1.0), (0.5, 0.5), (0.8, -0.7)],
)
def test_weight_of_the_origin_by_random_matrices(g, gamma):
    N, draws, rng = 800, 6, np.random.default_rng(1)
    weights = []
    for _ in range(draws):
        a, b = rng.standard_normal((2, N, N))
        symmetric, other = (a + a.T) / 2, (b - b.T) / 2
        J = math.sqrt(1 + gamma) * symmetric + math.sqrt(1 - gamma) * other
        _, logarithm = np.linalg.slogdet(g * J / math.sqrt(N) - np.eye(N))
        weights.append(-logarithm / N)
    # In the bulk the logarithm of a determinant varies by about the root of ln N, 2.6,
    # in a draw, and its mean is off by as much: 3e-3 each, divided by N.
    assert np.mean(weights) == pytest.approx(trivial_weight(g, gamma), abs=6e-3)


@pytest.mark.parametrize("gamma", [-0.9, -0.5, 0.0, 1e-9, 0.5, 1.0])
def test_weight_of_the_origin_at_the_edge(gamma):
    edge, _ = critical_gains(gamma)
    h = 1e-4
    outside, inside = trivial_weight(edge * np.array([1 - h, 1 + h]), gamma)
    at = trivial_weight(edge, gamma)
    # Value and slope are continuous, the slope with a power 3/2 at gamma = 1: what
    # remains of second differences is h^(3/2) = 1e-6, or h^2, with factors.
    assert outside + inside - 2 * at == pytest.approx(0, abs=5e-6)
    assert outside == pytest.approx(at, abs=1e-3)
    assert at == pytest.approx(math.log1p(gamma) - gamma / 2, abs=1e-12)


def test_weight_of_the_origin_is_largest_where_the_weight_moves():
    for gamma in (0.2, 0.5, 1.0):
        _, top = critical_gains(gamma)
        values = trivial_weight(top * np.array([0.999, 1, 1.001]), gamma)
        assert values[1] > max(values[0], values[2])


def test_weight_of_the_origin_without_symmetry_and_of_rotations():
    assert trivial_weight([0.3, 0.99], 0.0) == pytest.approx(0, abs=1e-15)
    # An antisymmetric matrix has eigenvalues i w with the semicircle's density.
    g = 2.0
    w = 2 * g * np.sin(np.linspace(-np.pi / 2, np.pi / 2, 4001))
    density = np.sqrt(4 * g**2 - w**2) / (2 * np.pi * g**2)
    expected = -np.trapezoid(density * np.log1p(w**2) / 2, w)
    assert trivial_weight(g, -1.0) == pytest.approx(expected, abs=1e-6)


def test_weight_of_the_origin_below_the_edge_is_that_of_the_paramagnet():
    for g, gamma in ((0.5, 0.5), (1.2, -0.4), (0.45, 1.0)):
        # To first order in T, with 1e-9 times a factor of the order 1 to 100.
        low = paramagnet(g, gamma, 1e-9).log_weight
        assert low == pytest.approx(trivial_weight(g, gamma), abs=1e-7)


# --- exponent at fixed activity -----------------------------------------------------


def exponent_by_itself(q, g, gamma, T):
    """S(q) and its partial derivative by q, from its stationary m, qhat and w."""
    s = T + g**2 * q
    both = s + gamma * g**2 * q

    def averages(qhat, w):
        return logarithm_and_means(
            lambda x: -(x**2) / (2 * s) + qhat * np.tanh(x) ** 2 + w * x * np.tanh(x),
            s**0.5,
            lambda x: np.tanh(x) ** 2,
            lambda x: x * np.tanh(x),
            lambda x: x**2,
        )

    def defect(unknown):
        m, qhat, w = unknown * [q, 1 / q, 1 / q]
        _, (second, mixed, _) = averages(qhat, w)
        return [
            gamma * g**2 * m / (s * both) * q - w * q,
            second / q - 1,
            (mixed - m) / q,
        ]

    # phi = x: the variance is q, m = q.
    w = gamma * g**2 / (s * both) * q
    start = [1, (1 / s - 1 / q) * q / 2 - w * q, w * q]
    m, qhat, w = root(defect, start, tol=1e-12).x * [q, 1 / q, 1 / q]
    logarithm, (_, _, square) = averages(qhat, w)
    first = gamma * g**2 * m**2 / (2 * s * both)
    S = first - qhat * q - w * m + logarithm - math.log(2 * math.pi * s) / 2
    by_first = -first * (g**2 / s + g**2 * (1 + gamma) / both)
    return S, by_first - qhat + g**2 / 2 * (square / s**2 - 1 / s)


@pytest.mark.parametrize(
    ("q", "g", "gamma", "T"),
    [
        (0.1, 1.0, 0.5, 0.0),
        (0.3, 0.7, 1.0, 1e-2),
        (0.2, 2.2, -0.5, 0.0),
        (0.02, 0.6, 0.3, 0.1),
        (0.4, 1.5, 0.0, 0.0),
    ],
)
def test_exponent_and_slope_by_themselves(q, g, gamma, T):
    S, slope = exponent_by_itself(q, g, gamma, T)
    h = 1e-4 * q
    below, at, above = annealed_exponent([q - h, q, q + h], g, gamma, T)
    assert at == pytest.approx(S, abs=1e-9)
    # The difference is off by h^2 S''' = 1e-8 / q, or rounding of 1e-15 / h.
    assert (above - below) / (2 * h) == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize(("g", "T"), [(1.2, 0.0), (0.7, 0.2), (2.5, 1e-3)])
def test_exponent_without_symmetry_is_a_rate(g, T):
    """Of Gaussians of variance s that have the activity q: one Legendre transform."""
    z = np.linspace(-12, 12, 2401)
    weight = np.exp(-(z**2) / 2)
    weight /= weight.sum()
    for q in (0.05, 0.3, 0.8):
        second = np.tanh((T + g**2 * q) ** 0.5 * z) ** 2

        def excess(qhat, second=second, q=q):
            exponent = qhat * second
            law = weight * np.exp(exponent - exponent.max())
            return law @ second / law.sum() - q

        qhat = brentq(excess, -1e3, 1e3, xtol=1e-13)
        rate = logsumexp(qhat * (second - q), b=weight)
        assert annealed_exponent(q, g, 0.0, T) == pytest.approx(rate, abs=1e-9)


@pytest.mark.parametrize(
    "point", [*POINTS[:5], (1.0, 0.5, 0.0), (1.2, 0.0, 0.0), (3.0, -0.5, 0.0)]
)
def test_largest_exponent_is_the_weight_of_the_paramagnet(point):
    found = paramagnet(*point)
    near = found.q * np.array([1, 0.99, 1.01, 0.9, 1.1])
    S = annealed_exponent(near, *point)
    # Both are stationary: their errors are squares of residuals.
    assert S[0] == pytest.approx(found.log_weight, abs=1e-12)
    assert S[0] > S[1:3].max()
    assert S[1:3].min() > S[3:].max()


@pytest.mark.parametrize(("g", "gamma", "T"), [(1.8, -0.5, 1e-4), (5.0, -0.9, 1e-3)])
def test_both_solutions_are_stationary(g, gamma, T):
    for cold in (False, True):
        found = paramagnet(g, gamma, T, cold=cold)
        S = annealed_exponent(found.q * np.array([1, 0.999, 1.001]), g, gamma, T)
        assert S[0] == pytest.approx(found.log_weight, abs=1e-12)
        assert S[0] > S[1:].max()


@pytest.mark.parametrize(
    ("g", "gamma", "dossier"),
    [
        (1.2, 0.0, 0.3056),
        (0.8, 0.5, -0.0417),
        (1.0, 0.5, 0.3333),
        (0.75, 1.0, 0.1111),
        (2.2, -0.5, 0.5868),
    ],
)
def test_exponent_leaves_the_weight_of_the_origin(g, gamma, dossier):
    q = 4e-4 / 2.0 ** np.arange(4)
    S = annealed_exponent(q, g, gamma) - trivial_weight(g, gamma)
    slopes = S / q
    # Two extrapolations, of errors of the orders q and q^2; what remains is
    # q^3 = 1e-10, or rounding of 1e-14 / q.
    first = 2 * slopes[1:] - slopes[:-1]
    second = (4 * first[1:] - first[:-1]) / 3
    expected = 1 - 1 / (g**2 * (1 + gamma))
    assert second == pytest.approx(expected, abs=1e-8)
    assert expected == pytest.approx(dossier, abs=5.1e-5)


@pytest.mark.parametrize(("g", "gamma"), [(0.8, 0.5), (1.2, 0.0), (2.2, -0.5)])
def test_exponent_at_low_temperature(g, gamma):
    q, T = np.array([[8e-3], [4e-3], [2e-3]]), 1e-6 * np.array([1, 2])
    change = annealed_exponent(q, g, gamma, T) - annealed_exponent(q, g, gamma)
    slopes = 2 * change[:, 0] / T[0] - change[:, 1] / T[1]
    edge, _ = critical_gains(gamma)
    # Off by the orders q and q^2, which are extrapolated; the rest is 1e-4.
    products = slopes * q[:, 0]
    first = 2 * products[1:] - products[:-1]
    extrapolated = (4 * first[1] - first[0]) / 3
    assert extrapolated == pytest.approx(-(1 - (edge / g) ** 2) / (2 * g**2), rel=1e-3)


def test_exponent_broadcasts():
    S = annealed_exponent(np.array([[0.1], [0.3]]), [1.0, 1.5, 2.0], 0.2)
    assert S.shape == (2, 3)
    assert S[1, 2] == pytest.approx(annealed_exponent(0.3, 2.0, 0.2), abs=1e-11)


# --- derivatives --------------------------------------------------------------------


def differences(f, v, h=1e-5):
    """Central differences of f: (P, k) -> (P, k), as (P, k, k)."""
    moved = [
        (f(v + h * unit) - f(v - h * unit)) / (2 * h) for unit in np.eye(v.shape[1])
    ]
    return np.stack(moved, axis=2)


def assert_close_slopes(found, expected):
    # Differences are off by h^2 = 1e-10, with third derivatives up to 1e2 of the scale.
    scale = np.maximum(1, np.abs(expected).max(axis=(1, 2), keepdims=True))
    assert np.abs((found - expected) / scale).max() < 1e-7


arguments = (
    np.array([0.7, 1.3, 2.0, 0.9]),
    np.array([0.5, 0.0, -0.6, 1.0]),
    np.array([0.1, 1e-3, 0.5, 1e-5]),
)


def test_derivatives_of_the_paramagnets_equations():
    v = np.array([[-2, 0.8, 0.1], [-1, 0.5, -0.2], [-0.5, 0.4, 0.9], [-5, 1.2, -0.3]])
    found = module._paramagnet(v, *arguments)
    expected = differences(lambda v: module._paramagnet(v, *arguments).defect, v)
    assert_close_slopes(found.slope, expected)


def test_derivatives_of_the_equations_at_fixed_activity():
    q = np.array([0.1, 0.4, 0.7, 0.01])
    v = np.array([[0.2, -0.3], [0.1, 0.2], [-0.4, 0.5], [0.5, -0.1]])
    found = module._at_activity(v, q, *arguments)
    expected = differences(lambda v: module._at_activity(v, q, *arguments).defect, v)
    assert_close_slopes(found.slope, expected)


# --- numerics -----------------------------------------------------------------------


def test_points_of_the_law_are_enough(monkeypatch):
    g = np.array([0.7, 1.2, 2.0, 3.0, 0.6])
    gamma = np.array([0.5, 0.0, -0.5, 0.9, 1.0])
    T = np.array([1e-4, 0.3, 0.1, 1e-2, 2.0])
    before = paramagnet(g, gamma, T)
    monkeypatch.setattr(module, "POINTS", 907)
    after = paramagnet(g, gamma, T)
    for name in ("q", "r", "log_weight"):
        # The trapezoidal rule is exact to rounding; Newton's method to 1e-13.
        expected = getattr(after, name)
        assert getattr(before, name) == pytest.approx(expected, rel=1e-10, abs=1e-12)


def test_ladder_has_what_is_asked_for():
    T = np.array([0.3, 0.0, 20.0, 1e-4])
    rungs = module._ladder(T)
    assert np.isin(T, rungs).all()
    assert rungs[0] == 20
    assert np.all(np.diff(rungs) < 0)
    # Steps of at most a third of a decade, down to where the last one is made to 0.
    positive = rungs[rungs > 0]
    assert np.diff(-np.log10(positive)).max() < 1 / 3 + 1e-12
    assert positive[-1] <= module.COLD * (1 + 1e-12)


def test_newton_gives_up_where_no_step_helps():
    def equations(v, rows):
        return module.Equations(v**2 + 1, 2 * v[:, :, None])

    v, residual = module._newton(equations, np.array([[0.5], [-0.3]]))
    assert np.all(residual >= 1)
    assert np.all(np.abs(v) < 0.5)


def test_newton_does_not_use_what_is_no_number():
    def equations(v, rows):
        assert len(v) == len(rows)
        broken = np.where(v < 0, np.nan, v - 1)
        return module.Equations(broken, np.where(v < 0, np.nan, 1.0)[:, :, None])

    v, residual = module._newton(equations, np.array([[5.0], [-1.0]]))
    assert v[0, 0] == pytest.approx(1)
    assert residual[0] < 1e-12
    assert v[1, 0] == -1
    assert residual[1] == np.inf


# --- errors -------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [-1.0, 1.1, np.nan, [0.0, -2.0]])
def test_critical_gains_need_a_symmetry(gamma):
    with pytest.raises(ValueError, match=r"^gamma must be > -1 and <= 1, got"):
        critical_gains(gamma)


def test_critical_gains():
    edge, weight = critical_gains([[0.0, 1.0], [-0.75, 0.5]])
    assert edge == pytest.approx(np.array([[1, 0.5], [4, 2 / 3]]))
    assert weight == pytest.approx(np.array([[1, 0.5**0.5], [2, 1.5**-0.5]]))


@pytest.mark.parametrize("g", [0.0, -1.0, np.inf, np.nan])
def test_gain_must_be_positive(g):
    for call in (
        lambda: trivial_weight(g, 0.5),
        lambda: paramagnet(g, 0.5, 0.1),
        lambda: annealed_exponent(0.1, g, 0.5),
    ):
        with pytest.raises(ValueError, match=r"^g must be finite and > 0, got"):
            call()


@pytest.mark.parametrize("gamma", [-1.1, 1.5, np.nan])
def test_symmetry_must_be_a_correlation(gamma):
    for call in (
        lambda: trivial_weight(1.0, gamma),
        lambda: paramagnet(1.0, gamma, 0.1),
        lambda: annealed_exponent(0.1, 1.0, gamma),
    ):
        with pytest.raises(ValueError, match=r"^gamma must be from -1 to 1, got"):
            call()


@pytest.mark.parametrize("temperature", [-1e-3, np.inf, np.nan])
def test_temperature_must_not_be_negative(temperature):
    for call in (
        lambda: paramagnet(1.0, 0.5, temperature),
        lambda: annealed_exponent(0.1, 1.0, 0.5, temperature),
    ):
        with pytest.raises(
            ValueError, match=r"^temperature must be finite and >= 0, got"
        ):
            call()


@pytest.mark.parametrize("q", [0.0, 1.0, -0.1, np.nan, [0.5, 2.0]])
def test_activity_must_be_a_mean_square(q):
    with pytest.raises(ValueError, match=r"^q must be > 0 and < 1, got"):
        annealed_exponent(q, 1.0, 0.5)


def test_exponent_of_rotations_is_not_defined():
    with pytest.raises(ValueError, match=r"^gamma must be > -1 and <= 1, got -1"):
        annealed_exponent(0.1, 1.0, -1.0)


def test_exponent_that_is_not_found():
    with pytest.raises(
        FloatingPointError,
        match=r"^the exponent is not found at q = 0.995, g = 2.0, gamma = -0.9, "
        r"temperature = 0.0: residual \d",
    ):
        annealed_exponent([0.5, 0.995], 2.0, -0.9)


@pytest.mark.parametrize("cold", [False, True])
def test_paramagnet_that_is_not_found(monkeypatch, cold):
    monkeypatch.setattr(module, "STEPS", 0)
    with pytest.raises(
        FloatingPointError,
        match=r"^the paramagnet is not found at g = 1.5, gamma = -0.5, "
        r"temperature = 0.1: residual \d",
    ):
        paramagnet(1.5, -0.5, 0.1, cold=cold)
