"""Correlators against exact moments, a spectral method, and finer grids."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm
from scipy.special import gamma

from fpbook import correlators as module
from fpbook.correlators import correlators
from fpbook.langevin import langevin_ensemble

# What is left after extrapolation: sixth moments on 201 and 603 cells are good to a few
# units of 1e-6, lower ones are better.
ACCURACY = 1e-5


def gaussian_moments(mean, variance, orders):
    """Moments of a normal number, by the recursion of its Hermite polynomials."""
    values = [1.0, mean]
    for n in range(2, max(orders) + 1):
        values.append(mean * values[n - 1] + (n - 1) * variance * values[n - 2])
    return np.array([values[n] for n in orders])


@pytest.mark.parametrize(
    ("a", "force"), [(1.5, 0.0), (1.5, 0.6), (0.0, 0.0), (-0.8, 0.0)]
)
@pytest.mark.parametrize("time", [0.05, 0.7])
def test_linear_drift_keeps_a_gaussian(a, force, time):
    # a W^2 / 2 - f W: for a < 0 the box grows, with a weak quartic to bound the loss.
    T, orders = 0.4, (1, 2, 3, 4, 6)
    couplings = {1: -force, 2: a} if a > 0 else {2: a, 4: 1e-9}
    if a == 0:
        couplings = {}
    (found,) = correlators(couplings, T, [time], orders)
    growth = -math.expm1(-a * time) / a if a else time
    spread = -math.expm1(-2 * a * time) / (2 * a) if a else time
    exact = gaussian_moments(force * growth, 2 * T * spread, orders)
    scale = gaussian_moments(abs(force) * growth, 2 * T * spread, (1, 2, 3, 4, 6))
    width = math.sqrt(2 * T * spread)
    size = np.maximum(scale, width ** np.array(orders))
    # Box and cells follow the diffusion, not the push: a few digits less with it. An
    # unstable loss also multiplies the errors of early times.
    allowed = 30 if a < 0 else 10 if force else 1
    assert np.abs((found - exact) / size).max() < allowed * ACCURACY


def test_a_loss_that_is_too_unstable_for_the_cells_is_refused():
    with pytest.raises(FloatingPointError, match=r"^a mass of 2e-06 has reached"):
        correlators({2: -0.8, 4: 1e-9}, 0.4, [2.0], (2,))


def test_quartic_loss_ends_in_its_stationary_moments():
    g, T = 0.7, 1.3
    (found,) = correlators({4: g}, T, [40.0], (2, 4, 6))
    exact = [
        (4 * T / g) ** (n / 4) * gamma((n + 1) / 4) / gamma(1 / 4) for n in (2, 4, 6)
    ]
    np.testing.assert_allclose(found, exact, rtol=1e-8)


def test_quartic_loss_by_the_hierarchy_in_another_basis():
    # Hermite functions of the stationary Gaussian of another loss: Galerkin's method on
    # the backward equation, exact to rounding at 60 of them.
    g, T, time, size = 1.0, 1.0, 0.4, 120
    n = np.arange(size)
    lower = np.diag(np.sqrt(n[1:]), 1)
    scale = 0.35  # standard deviation of the weight of the basis
    x = scale * (lower + lower.T)
    slope = lower / scale
    # d<f>/dt = <-L' f' + T f''>; on polynomials of low degree the cut is not felt.
    backward = -g * np.linalg.matrix_power(x, 3) @ slope + T * slope @ slope
    keep = 60
    moved = expm(time * backward[:keep, :keep])
    at_zero = np.zeros(keep)
    values = [1.0, 0.0]
    for k in range(1, keep - 1):
        values.append(-math.sqrt(k / (k + 1)) * values[k - 1])
    at_zero[:] = values
    second = np.zeros(keep)
    second[0], second[2] = scale**2, math.sqrt(2) * scale**2
    expected = at_zero @ moved @ second
    (found,) = correlators({4: g}, T, [time], (2,))
    assert found[0] == pytest.approx(expected, rel=1e-5)


def test_walkers_agree():
    M, dt, steps = 40_000, 0.005, 120
    walkers = langevin_ensemble(
        lambda w: w - w**3, 0.5, np.zeros((M, 1)), dt, steps, seed=1
    )[0][:, 0]
    (found,) = correlators({2: -1.0, 4: 1.0}, 0.5, [dt * steps], (2, 4))
    for n, value in zip((2, 4), found, strict=True):
        powers = walkers**n
        error = powers.std() / math.sqrt(M)
        # The scheme of the walkers is off by a relative n dt / 2 or so.
        assert abs(powers.mean() - value) < 4 * error + 2 * n * dt * value


def test_error_falls_with_the_fourth_power_of_cells_and_steps(monkeypatch):
    # After the extrapolation of the second.
    exact = gaussian_moments(0.0, 0.5 * -math.expm1(-1.4), (2, 4, 6))
    errors = []
    for refinement in (1, 2):
        monkeypatch.setattr(module, "CELLS", 50 * refinement + 1)
        monkeypatch.setattr(module, "STEPS", 5 * refinement)
        (found,) = correlators({2: 1.0}, 0.5, [0.7], (2, 4, 6))
        errors.append(np.abs(found / exact - 1))
    order = np.log2(errors[0] / errors[1])
    assert np.all(order > 3), order


def test_extrapolation_gains_two_digits():
    exact = gaussian_moments(0.0, 0.5 * -math.expm1(-1.4), (2, 4))
    fine, _ = module._moments({2: 1.0}, 0.5, 0.7, (2, 4), 6.0, 3)
    (both,) = correlators({2: 1.0}, 0.5, [0.7], (2, 4), half_width=6.0)
    assert np.all(np.abs(both / exact - 1) < 0.03 * np.abs(fine / exact - 1))


@given(
    a=st.floats(-2, 2),
    g=st.floats(0.05, 3),
    T=st.floats(0.1, 2),
    time=st.floats(0.01, 5),
)
@settings(max_examples=15, deadline=None)
def test_chosen_box_is_large_enough(a, g, T, time):
    couplings = {2: a, 4: g}
    orders = (0, 1, 2, 4, 6)
    (found,) = correlators(couplings, T, [time], orders)
    assert found[0] == pytest.approx(1, abs=1e-10)
    # An even loss: odd moments vanish, but for the rounding of a sum over cells.
    assert abs(found[1]) < 1e-9
    box = 1.3 * module.reach(couplings, T, time)
    (wider,) = correlators(couplings, T, [time], orders, half_width=box)
    np.testing.assert_allclose(found[2:], wider[2:], rtol=3e-5)


def test_times_are_runs_of_their_own():
    alone = [correlators({4: 1.0}, 1.0, [t], (2,))[0] for t in (0.3, 0.9)]
    assert np.array_equal(correlators({4: 1.0}, 1.0, [0.3, 0.9], (2,)), alone)


def test_a_box_that_is_too_small_is_noticed():
    with pytest.raises(ValueError, match=r"^half_width must hold the density, a mass"):
        correlators({}, 1.0, [1.0], (2,), half_width=2.0)


@pytest.mark.parametrize(
    "couplings", [{3: 1.0}, {2: -1.0}, {2: 1.0, 4: -0.1}, {1: 1.0}, {2: 1.0, 5: 1.0}]
)
def test_loss_must_be_bounded_from_below(couplings):
    message = "couplings must make a loss that is bounded from below"
    with pytest.raises(ValueError, match=re.escape(message)):
        correlators(couplings, 1.0, [1.0], (2,))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"couplings": {0: 1.0}}, "couplings must be an integer from 1 to 100, got 0"),
        ({"couplings": {2: math.nan}}, "couplings must be finite"),
        ({"temperature": 0.0}, "temperature must be finite and > 0, got 0.0"),
        ({"times": [0.0, 1.0]}, "times must be finite and > 0"),
        ({"times": [1.0, 0.5]}, "times must be >= 0 and increasing"),
        ({"orders": [2, -1]}, "orders must be an integer >= 0, got -1"),
        ({"half_width": -1.0}, "half_width must be finite and > 0, got -1.0"),
    ],
)
def test_bad_arguments(change, message):
    good = {"couplings": {2: 1.0}, "temperature": 1.0, "times": [1.0], "orders": [2]}
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        correlators(**{**good, **change})


def test_late_times_in_two_valleys_are_stationary():
    # The box is then the loss's own: nothing of the run away from the maximum is left.
    (found,) = correlators({2: -1.0, 4: 1.0}, 0.2, [60.0], (2, 4))
    w = np.linspace(-4, 4, 4001)
    weight = np.exp(-(w**4 / 4 - w**2 / 2) / 0.2)
    exact = [(weight * w**n).sum() / weight.sum() for n in (2, 4)]
    np.testing.assert_allclose(found, exact, rtol=1e-6)
