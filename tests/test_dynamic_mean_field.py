"""Chaos, rest and fixed points of infinite networks against limits and other methods.

Independent references: expansions near the transition, adaptive quadrature, averages on
a grid of two variables, finite differences in time, bisection, and random matrices.
"""

import math
import re
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.linalg import eigh_tridiagonal
from scipy.optimize import brentq, minimize_scalar

import fpbook.dynamic_mean_field as module
from fpbook.dynamic_mean_field import (
    mean_field_dynamics,
    static_mean_field,
    typical_fixed_points,
)

GAINS = [1.05, 1.2, 1.5, 2.0, 3.0, 5.0]

Z = np.linspace(-8, 8, 161)
NORMAL = np.exp(-(Z**2) / 2) / np.exp(-(Z**2) / 2).sum()


def normal_mean(f):
    """Average of an even function of z, adaptively."""
    value = quad(
        lambda z: f(z) * math.exp(-(z**2) / 2), 0, 12, epsabs=1e-13, epsrel=1e-13
    )[0]
    return 2 * value / math.sqrt(2 * math.pi)


def log_cosh(x):
    return np.logaddexp(x, -x) - math.log(2)


def slope(x):
    return 1 / np.cosh(x) ** 2


def product_mean(f, variance, covariance):
    """Average of f(x) f(x') on a grid: x' is a multiple of x and a rest."""
    x = math.sqrt(variance) * Z
    rest = math.sqrt(max(variance - covariance**2 / variance, 0))
    other = np.add.outer(covariance / variance * x, rest * Z)
    return NORMAL * f(x) @ f(other) @ NORMAL


def product_means(f, variance, covariances):
    return np.array([product_mean(f, variance, c) for c in covariances])


@cache
def dynamics(g, longest=20.0, points=401):
    return mean_field_dynamics(g, longest=longest, points=points)


# --- chaos --------------------------------------------------------------------------

# (variance, activity, kinetic energy, Lyapunov exponent), printed digits of another
# program's solution, with errors of 1e-4 in the exponent. Its values at g = 3 are left
# out: adaptive quadrature, below, has them off by 2e-4 to 3e-3.
KNOWN = {
    1.1: (0.11106, 0.09201, 2.73e-4, 0.0037),
    1.2: (0.24263, 0.16981, 1.895e-3, 0.0119),
    1.5: (0.74769, 0.34209, 0.02202, 0.0468),
    2.0: (1.92481, 0.51318, 0.12791, 0.1125),
}


@pytest.mark.parametrize("g", KNOWN)
def test_known_values(g):
    found = dynamics(g)
    variance, activity, kinetic_energy, lyapunov = KNOWN[g]
    assert found.variance == pytest.approx(variance, abs=1e-5)
    assert found.activity == pytest.approx(activity, abs=1e-5)
    assert found.kinetic_energy == pytest.approx(kinetic_energy, abs=5e-6)
    assert found.lyapunov == pytest.approx(lyapunov, abs=1e-4)


@pytest.mark.parametrize("g", [*GAINS, 10.0])
def test_variance_by_adaptive_quadrature(g):
    def height(variance):
        deviation = math.sqrt(variance)
        mean = normal_mean(lambda z: log_cosh(deviation * z))
        spread = normal_mean(lambda z: (log_cosh(deviation * z) - mean) ** 2)
        return g**2 * spread / variance**2 - 1 / 2

    variance = brentq(height, (g - 1) / 2, g**2, xtol=1e-14)
    activity = normal_mean(lambda z: math.tanh(math.sqrt(variance) * z) ** 2)
    found = dynamics(g)
    # Twelve digits of the averages; near g = 1 the root loses those of g - 1.
    assert found.variance == pytest.approx(variance, rel=1e-10)
    assert found.activity == pytest.approx(activity, rel=1e-10)
    assert found.kinetic_energy == pytest.approx(g**2 * activity - variance, rel=1e-8)


def deviations_near_the_transition(eps):
    found = mean_field_dynamics(1 + eps, longest=6 / eps, points=101)
    shape = 1 / np.cosh(eps * found.times / math.sqrt(3))
    return (
        found.variance / eps - 1,
        found.variance / eps - 1 - 7 / 6 * eps,
        found.kinetic_energy / (eps**3 / 3) - 1,
        found.lyapunov / (eps**2 / 2) - 1,
        np.abs(found.autocorrelation / eps - shape).max(),
    )


def test_expansion_near_the_transition():
    # What is left falls with the power of the first term that is left out.
    coarse = np.array(deviations_near_the_transition(0.02))
    fine = np.array(deviations_near_the_transition(0.01))
    np.testing.assert_allclose(np.log2(coarse / fine), [1, 2, 1, 1, 1], rtol=0.08)
    assert np.abs(fine).max() < 0.04


@pytest.mark.parametrize("g", [1.2, 1.5, 3.0])
def test_orbit_obeys_newtons_equation(g):
    found = dynamics(g)
    mirrored = np.concatenate([found.autocorrelation[3:0:-1], found.autocorrelation])
    stencil = np.array([2, -27, 270, -490, 270, -27, 2]) / 180 / found.times[1] ** 2
    acceleration = np.convolve(mirrored, stencil, mode="valid")
    lags = slice(0, len(acceleration), 7)
    delta = found.autocorrelation[lags]
    force = delta - g**2 * product_means(np.tanh, found.variance, delta)
    # The stencil errs by h^6 times the eighth derivative over 560.
    np.testing.assert_allclose(acceleration[lags], force, rtol=0, atol=5e-9)
    assert -acceleration[0] == pytest.approx(found.kinetic_energy, abs=5e-9)


@pytest.mark.parametrize("g", [1.2, 1.5, 3.0])
def test_orbit_keeps_its_energy(g):
    # With the primitive log cosh of tanh in place of the integral.
    found = dynamics(g)
    stencil = np.array([1, -9, 45, 0, -45, 9, -1]) / 60 / found.times[1]
    speed = np.convolve(found.autocorrelation, stencil, mode="valid")[::7]
    delta = found.autocorrelation[3:-3:7]
    uncorrelated = (NORMAL @ log_cosh(math.sqrt(found.variance) * Z)) ** 2
    products = product_means(log_cosh, found.variance, delta)
    height = -(delta**2) / 2 + g**2 * (products - uncorrelated)
    np.testing.assert_allclose(speed**2 / 2 + height, 0, rtol=0, atol=1e-9)
    # The two parts do not vanish by themselves.
    assert np.abs(height).max() > 5e-5


@pytest.mark.parametrize("g", [1.05, 1.5, 5.0])
def test_tail_is_exponential(g):
    # Around the top of the hill, Delta'' = (1 - g^2 <phi'>^2) Delta.
    found = mean_field_dynamics(g, longest=2000.0, points=21)
    deviation = math.sqrt(found.variance)
    mean = normal_mean(lambda z: slope(deviation * z))
    rate = math.sqrt(1 - (g * mean) ** 2)
    ends = found.autocorrelation[[15, 16]]
    assert 0 < ends[1] < ends[0]
    assert np.log(ends[0] / ends[1]) / 100 == pytest.approx(rate, rel=1e-9)


def lowest_energies(g, found, every):
    """Two smallest energies, by differences on the whole line of lags."""
    step = every * found.times[1]
    delta = found.autocorrelation[::every]
    half = 1 - g**2 * product_means(slope, found.variance, delta)
    potential = np.concatenate([half[:0:-1], half])
    return eigh_tridiagonal(
        potential + 2 / step**2,
        np.full(len(potential) - 1, -1 / step**2),
        eigvals_only=True,
        select="i",
        select_range=(0, 1),
    )


@pytest.mark.parametrize(
    ("g", "longest"), [(1.2, 120.0), (1.5, 60.0), (2.0, 40.0), (3.0, 30.0)]
)
def test_lyapunov_exponent_by_differences_in_time(g, longest):
    found = mean_field_dynamics(g, longest=longest, points=801)
    coarse, fine = (lowest_energies(g, found, every) for every in (2, 1))
    ground, first = (4 * fine - coarse) / 3
    assert (1 + found.lyapunov) ** 2 == pytest.approx(1 - ground, abs=2e-8)
    # A shift in time costs nothing: the orbit's velocity is the next state.
    assert first == pytest.approx(0, abs=2e-7)


@pytest.mark.parametrize("g", [1.05, 2.0, 5.0])
def test_more_nodes_change_nothing(g, monkeypatch):
    before = dynamics(g)
    nodes = module._normal
    monkeypatch.setattr(module, "_normal", lambda g: nodes(1.5 * g))
    monkeypatch.setattr(module, "DEGREE", 70)
    monkeypatch.setattr(module, "TRIALS", 80)
    after = dynamics.__wrapped__(g)
    assert after.variance == pytest.approx(before.variance, rel=1e-12)
    assert after.activity == pytest.approx(before.activity, rel=1e-12)
    assert after.kinetic_energy == pytest.approx(before.kinetic_energy, rel=1e-10)
    assert after.lyapunov == pytest.approx(before.lyapunov, rel=1e-9)
    assert after.lyapunov != before.lyapunov
    np.testing.assert_allclose(
        after.autocorrelation, before.autocorrelation, rtol=1e-9, atol=0
    )


def test_lags_are_those_asked_for():
    few = mean_field_dynamics(1.5, longest=4.0, points=3)
    many = mean_field_dynamics(1.5, longest=300.0, points=301)
    np.testing.assert_array_equal(few.times, [0, 2, 4])
    np.testing.assert_allclose(
        few.autocorrelation, many.autocorrelation[:5:2], rtol=1e-9
    )
    assert few[:3] == many[:3]
    assert few.lyapunov == many.lyapunov
    assert few.autocorrelation[0] == few.variance


@settings(max_examples=15, deadline=None)
@given(g=st.floats(1.01, 5.0))
def test_chaos_lies_between_typical_fixed_points_and_static_ones(g):
    chaos = mean_field_dynamics(g, points=61)
    static, typical = static_mean_field(g, 0.0), typical_fixed_points(g)
    assert typical.variance < chaos.variance < static.variance
    assert typical.activity < chaos.activity < static.activity
    assert chaos.lyapunov > 0
    assert chaos.kinetic_energy > 0
    assert np.all(np.diff(chaos.autocorrelation) < 0)
    assert chaos.autocorrelation[-1] > 0


# --- neurons at rest ----------------------------------------------------------------

# Activity and response, printed digits of another program's solution.
KNOWN_AT_REST = {
    (0.7, 0.5): (0.050, 1.427),
    (0.8, 0.5): (0.189, 1.233),
    (1.0, 0.5): (0.399, 0.956),
    (0.6, 1.0): (0.199, 1.635),
    (2.6, -0.5): (0.203, 0.382),
}
KNOWN_STABILITY = {
    (1.1, 0.0): 1.010,
    (1.2, 0.0): 1.034,
    (1.5, 0.0): 1.139,
    (0.7, 0.5): 1.006,
    (1.0, 0.5): 1.26,
    (2.6, -0.5): 1.025,
}


@pytest.mark.parametrize("point", KNOWN_AT_REST)
def test_known_values_at_rest(point):
    found = static_mean_field(*point)
    np.testing.assert_allclose(found[:2], KNOWN_AT_REST[point], rtol=0, atol=5.1e-4)


@pytest.mark.parametrize("point", KNOWN_STABILITY)
def test_known_stability(point):
    found = static_mean_field(*point).stability
    assert found == pytest.approx(KNOWN_STABILITY[point], abs=2e-3)


@pytest.mark.parametrize("g", [1.001, 1.1, 2.0, 10.0])
def test_independent_couplings_have_a_closed_form(g):
    def defect(q):
        return normal_mean(lambda z: math.tanh(g * math.sqrt(q) * z) ** 2) / q - 1

    q = brentq(defect, (1 - 1 / g) / 4, 1, xtol=1e-15)
    found = static_mean_field(g, 0.0)
    assert found.activity == pytest.approx(q, rel=1e-9)
    assert found.response == pytest.approx(1 - q, abs=1e-11)
    assert found.variance == pytest.approx(g**2 * q, rel=1e-9)
    squared = normal_mean(lambda z: slope(g * math.sqrt(q) * z) ** 2)
    assert found.stability == pytest.approx(g**2 * squared, rel=1e-9)


def states_by_bisection(fields, feedback):
    """Largest root x of x - Gamma tanh x = h for each h > 0."""
    low = np.full_like(fields, np.arccosh(max(feedback, 1.0) ** 0.5))
    high = fields + abs(feedback) + 1
    for _ in range(60):
        middle = (low + high) / 2
        above = middle - feedback * np.tanh(middle) > fields
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return (low + high) / 2


@pytest.mark.parametrize(
    ("g", "gamma"),
    [(0.7, 0.5), (0.6, 1.0), (2.0, 0.5), (2.6, -0.5), (10.0, -0.89), (2.0, 1.0)],
)
def test_static_law_by_bisection(g, gamma):
    found = static_mean_field(g, gamma)
    feedback = g**2 * gamma * found.response
    field = g * math.sqrt(found.activity)
    # Midpoints of |z|; their error is that of the second order.
    z = (np.arange(20_000) + 0.5) * 8.5 / 20_000
    weights = np.exp(-(z**2) / 2)
    weights /= weights.sum()
    x = states_by_bisection(field * z, feedback)
    phi = np.tanh(x)
    assert found.activity == pytest.approx(weights @ phi**2, rel=1e-6)
    assert found.response == pytest.approx(weights @ (z * phi) / field, rel=1e-6)
    assert found.variance == pytest.approx(weights @ x**2, rel=1e-6)
    # The other form of the response leaves out jumps, of 2 tanh x at h = 0.
    rate = slope(x) / (1 - feedback * slope(x))
    jump = 2 * np.tanh(states_by_bisection(np.zeros(1), feedback)[0])
    jump_rate = jump / (math.sqrt(2 * math.pi) * field)
    assert found.response == pytest.approx(weights @ rate + jump_rate, rel=1e-5)
    assert (jump > 1e-3) == (feedback > 1)
    if feedback < 1:
        assert found.stability == pytest.approx(g**2 * weights @ rate**2, rel=1e-5)
    else:
        assert found.stability == math.inf


@pytest.mark.parametrize(("g", "gamma"), [(0.5, 0.5), (0.45, 1.0), (1.0, -0.5)])
def test_response_of_a_network_at_rest_is_a_resolvent(g, gamma):
    N, rng = 500, np.random.default_rng(0)
    plus, minus = math.sqrt(1 + gamma) / 2, math.sqrt(1 - gamma) / 2
    G = rng.standard_normal((N, N)) / math.sqrt(N)
    inverse = np.linalg.inv(np.eye(N) - g * ((plus + minus) * G + (plus - minus) * G.T))
    found = static_mean_field(g, gamma)
    assert found.activity == found.variance == 0
    assert found.response == pytest.approx(np.trace(inverse) / N, abs=0.03)
    # Squares of the inverse add up walks: R^2 times all powers of (g R)^2.
    squares = np.sum(inverse**2) / N
    expected = found.stability / (1 - found.stability) / g**2
    assert squares == pytest.approx(expected, rel=0.06)


@pytest.mark.parametrize("gamma", [-0.8, -0.3, 0.0, 0.5, 1.0])
def test_states_grow_from_the_transition(gamma):
    edge = 1 / (1 + gamma)
    below, above = (static_mean_field(edge * s, gamma) for s in (1 - 1e-5, 1 + 1e-5))
    assert below.activity == 0 < above.activity < 1e-4
    assert below.response == pytest.approx(1 + gamma, rel=0.02)
    assert above.response == pytest.approx(1 + gamma, rel=1e-3)
    assert below.stability < 1 < above.stability
    at = static_mean_field(edge, gamma)
    assert at.activity == 0
    assert at.stability == pytest.approx(1, abs=1e-6)


def test_antisymmetric_couplings_stay_at_rest():
    found = static_mean_field(10.0, -1.0)
    assert found.activity == 0
    R = found.response
    assert abs(R * (1 + 100 * R) - 1) < 1e-12


def test_solution_continues_where_states_become_two():
    def excess(g):
        return g**2 * static_mean_field(g, 1.0).response - 1

    g = brentq(excess, 1, 2, xtol=1e-12)
    below, above = (static_mean_field(g + d, 1.0) for d in (-1e-6, 1e-6))
    np.testing.assert_allclose(below[:3], above[:3], rtol=1e-5)
    # On the way, the mean square of the response diverges.
    assert 10 < below.stability < above.stability == math.inf


def test_strong_symmetric_couplings_are_those_of_a_spin_glass():
    # Saturated neurons: <|z|> / g, as for replica-symmetric spins at T = 0.
    found = static_mean_field(10.0, 1.0)
    assert found.activity == pytest.approx(1, abs=1e-6)
    assert found.response == pytest.approx(math.sqrt(2 / math.pi) / 10, rel=1e-6)


@given(g=st.floats(0.05, 10.0), gamma=st.floats(-1.0, 1.0))
@settings(max_examples=60, deadline=None)
def test_rest_is_unstable_exactly_above_the_transition(g, gamma):
    found = static_mean_field(g, gamma)
    if g * (1 + gamma) > 1 + 1e-6:
        assert found.stability > 1
        assert 0 < found.activity < 1
        # By Cauchy and Schwarz.
        assert 0 < found.response <= 1 / g
        assert found.variance >= found.activity
    elif g * (1 + gamma) <= 1:
        assert found.stability < 1 + 1e-6
        assert found.activity == 0


# --- fixed points -------------------------------------------------------------------

# Complexity, activity, variance, complexity of the measure: printed digits of another
# program's solution.
KNOWN_NUMBERS = {
    1.2: (8.81e-4, 0.122, 0.158, 2.37e-4),
    1.5: (7.14e-3, 0.254, 0.466, 2.80e-3),
    2.0: (2.48e-2, 0.385, 1.146, 1.07e-2),
    3.0: (6.14e-2, 0.504, 3.10, 2.52e-2),
}


@pytest.mark.parametrize("g", KNOWN_NUMBERS)
def test_known_numbers_of_fixed_points(g):
    np.testing.assert_allclose(typical_fixed_points(g), KNOWN_NUMBERS[g], rtol=2.5e-3)


def determinant_exponent(g, law, squared_slope):
    """Maximum over tau of the exponent of the determinant; law and slopes in x."""
    return -minimize_scalar(
        lambda t: t / 2 - law @ np.log1p(t * g**2 * squared_slope) / 2,
        bounds=(0, 1),
        method="bounded",
        options={"xatol": 1e-9},
    ).fun


FINE = np.linspace(-9, 9, 2001)


def gaussian(deviation=1.0):
    law = np.exp(-(FINE**2) / 2)
    return deviation * FINE, law / law.sum()


@pytest.mark.parametrize("g", [1.05, 1.5, 5.0])
def test_numbers_are_extremal(g):
    found = typical_fixed_points(g)
    q = found.activity
    qhat = (found.variance / (g**2 * q) - 1) / (2 * q)

    def exponent(q, qhat, tau):
        x, law = gaussian(g * math.sqrt(q))
        phi2 = np.tanh(x) ** 2
        gain = np.exp(qhat * phi2) * np.sqrt(1 + tau * g**2 * slope(x) ** 2)
        return math.log(law @ gain) - tau / 2 - qhat * q

    tau = minimize_scalar(
        lambda t: -exponent(q, qhat, t),
        bounds=(0, 1),
        method="bounded",
        options={"xatol": 1e-10},
    ).x
    assert exponent(q, qhat, tau) == pytest.approx(found.complexity, abs=1e-12)
    point = np.array([q, qhat, tau])
    for k, size in enumerate(1e-3 * np.abs(point)):
        step = np.zeros(3)
        step[k] = size
        change = exponent(*(point + step)) - exponent(*(point - step))
        curvature = exponent(*(point + step)) + exponent(*(point - step))
        curvature -= 2 * found.complexity
        # A point off by 1 % of the step would be seen; below that is the third order.
        assert abs(change) < 0.02 * abs(curvature) + 1e-14


@pytest.mark.parametrize("g", [1.1, 1.5, 3.0])
def test_complexity_of_the_static_law_by_a_search(g):
    x, law = gaussian(math.sqrt(static_mean_field(g, 0.0).variance))
    expected = determinant_exponent(g, law, slope(x) ** 2)
    found = typical_fixed_points(g).measure_complexity
    assert found == pytest.approx(expected, abs=1e-12)


def test_numbers_near_the_transition():
    def ratios(eps):
        found = typical_fixed_points(1 + eps)
        return np.array(
            [
                found.complexity / eps**3,
                found.activity / eps,
                found.measure_complexity / eps**4,
            ]
        )

    coarse, fine = ratios(0.02), ratios(0.01)
    expected = [16 / 81, 2 / 3, 4 / 9]
    np.testing.assert_allclose(2 * fine - coarse, expected, rtol=0.01)


def log_determinant(g, x, seed):
    N = len(x)
    rng = np.random.default_rng(seed)
    J = rng.standard_normal((N, N)) / math.sqrt(N)
    return np.linalg.slogdet(np.eye(N) - g * J * slope(x))[1] / N


def quantiles(x, law, count):
    return np.interp((np.arange(count) + 0.5) / count, np.cumsum(law) - law / 2, x)


@pytest.mark.parametrize("g", [3.0, 5.0])
def test_complexities_are_determinants_of_random_matrices(g):
    found = typical_fixed_points(g)
    N, seeds = 400, range(8)
    # The static law: each fixed point has the weight of its inverse determinant.
    static = quantiles(*gaussian(math.sqrt(static_mean_field(g, 0.0).variance)), N)
    measured = np.mean([log_determinant(g, static, seed) for seed in seeds])
    # The logarithm varies by sqrt(log N) / N.
    assert measured == pytest.approx(found.measure_complexity, abs=4e-3)
    # The typical law costs its relative entropy to the Gaussian of its activity.
    q = found.activity
    x, law = gaussian(g * math.sqrt(q))
    qhat = (found.variance / (g**2 * q) - 1) / (2 * q)
    phi2 = np.tanh(x) ** 2

    def tilted(tau):
        gain = np.exp(qhat * phi2) * np.sqrt(1 + tau * g**2 * slope(x) ** 2)
        return gain / (law @ gain)

    # Its tau makes q its activity.
    tau = brentq(lambda t: law @ (tilted(t) * phi2) - q, 0, 1)
    gain = tilted(tau)
    entropy = law @ (gain * np.log(gain))
    states = quantiles(x, law * gain, N)
    measured = np.mean([log_determinant(g, states, seed) for seed in seeds])
    assert measured - entropy == pytest.approx(found.complexity, abs=4e-3)


@settings(max_examples=60, deadline=None)
@given(g=st.floats(1.01, 10.0), width=st.floats(0.05, 1.5))
def test_no_gaussian_law_has_more_fixed_points(g, width):
    # Any law of the states is a lower bound, whose cost is its relative entropy.
    deviation = width * math.sqrt(static_mean_field(g, 0.0).variance)
    x, law = gaussian(deviation)
    ratio = deviation**2 / (g**2 * (law @ np.tanh(x) ** 2))
    entropy = (ratio - 1 - math.log(ratio)) / 2
    bound = determinant_exponent(g, law, slope(x) ** 2) - entropy
    found = typical_fixed_points(g)
    assert bound <= found.complexity + 1e-12
    assert 0 < found.measure_complexity < found.complexity


# --- arguments ----------------------------------------------------------------------


@pytest.mark.parametrize("function", [mean_field_dynamics, typical_fixed_points])
@pytest.mark.parametrize("g", [0.5, 1.0, 10.5])
def test_gains_out_of_range_are_refused(function, g):
    message = (
        f"g must be > 1, where states other than x = 0 exist, and at most 10, got {g}"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        function(g)


@pytest.mark.parametrize("g", [0.0, -1.0, math.nan, math.inf])
def test_gains_have_to_be_positive(g):
    message = re.escape(f"g must be finite and > 0, got {g}")
    for call in (
        lambda: mean_field_dynamics(g),
        lambda: typical_fixed_points(g),
        lambda: static_mean_field(g, 0.0),
    ):
        with pytest.raises(ValueError, match=f"^{message}$"):
            call()


@pytest.mark.parametrize("gamma", [-1.1, 1.1, math.nan, np.zeros(2)])
def test_symmetries_out_of_range_are_refused(gamma):
    message = re.escape(f"gamma must be a number from -1 to 1, got {gamma}")
    with pytest.raises(ValueError, match=f"^{message}$"):
        static_mean_field(1.0, gamma)


def test_other_arguments_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"^g must be at most 10, got 11\.0$"):
        static_mean_field(11.0, 0.0)
    with pytest.raises(ValueError, match=r"^longest must be finite and > 0, got 0\.0$"):
        mean_field_dynamics(1.5, longest=0.0)
    with pytest.raises(ValueError, match=r"^points must be an integer >= 2, got 1$"):
        mean_field_dynamics(1.5, points=1)
    with pytest.raises(ValueError, match=r"^g must be a single number, "):
        mean_field_dynamics(np.array([1.5, 2.0]))


def test_failures_are_told(monkeypatch):
    with pytest.raises(FloatingPointError, match=r"not found at g = 1\.0001$"):
        typical_fixed_points(1.0001)
    # Between the two the potential at the start is not zero any more.
    with pytest.raises(FloatingPointError, match=r"the top at g = 1\.00000001$"):
        mean_field_dynamics(1.00000001)
    monkeypatch.setattr(module, "DEGREE", 8)
    with pytest.raises(FloatingPointError, match=r"not resolved at g = 5\.0$"):
        mean_field_dynamics(5.0)
