"""Random networks against closed forms, linear algebra, finite differences and theory.

Independent references: matrix exponentials, eigenvalues and singular values of the
linear network, the damped oscillator, roots of one equation, numerical derivatives, the
conditional law of couplings by dense matrices, and the order parameters of the theory.
Statistical tolerances are four standard errors, with fixed seeds.
"""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm
from scipy.optimize import brentq

import fpbook.random_networks as module
from fpbook.annealed import paramagnet
from fpbook.random_networks import (
    fixed_points,
    langevin,
    lyapunov_spectrum,
    plant,
    random_couplings,
    speed_energy,
    speed_gradient,
    trajectory,
    velocity,
)

# A few float64 operations per neuron: a few units of 1.1e-16, with a margin of 100.
ROUNDING = 1e-13
GAMMAS = [-1.0, -0.4, 0.0, 0.5, 1.0]
# Two neurons with nine fixed points, and with a limit cycle.
BISTABLE = np.array([[1.0, -0.05], [0.05, 1.0]])
CYCLE = np.array([[1.0, -0.8], [0.8, 1.0]])

seeds = st.integers(0, 2**32 - 1)
gammas = st.floats(-1, 1)


def assert_standard(samples, margin=4):
    """Check that rows have mean 0 and covariance 1, within standard errors."""
    count, width = samples.shape
    assert np.abs(samples.mean(axis=0)).max() < margin / math.sqrt(count)
    error = np.sqrt((1 + np.eye(width)) / count)
    assert np.all(np.abs(samples.T @ samples / count - np.eye(width)) < margin * error)


def slopes(x, J, g):
    return g * J * (1 - np.tanh(x) ** 2) - np.eye(len(J))


# --- couplings ----------------------------------------------------------------------


@pytest.mark.parametrize("gamma", GAMMAS)
def test_couplings_have_their_variance_and_correlation(gamma):
    N = 600
    J = random_couplings(N, gamma, 1) * N**0.5
    one, other = J[np.triu_indices(N, 1)], J.T[np.triu_indices(N, 1)]
    pairs = len(one)
    # Wick: the variance of a^2 is 2, of a b is 1 + gamma^2.
    assert abs(np.mean((one**2 + other**2) / 2) - 1) < 4 * math.sqrt(
        (1 + gamma**2) / pairs
    )
    assert abs(np.mean(one * other) - gamma) < 4 * math.sqrt((1 + gamma**2) / pairs)
    assert abs(np.mean(one + other)) < 4 * math.sqrt(2 * (1 + gamma) / pairs) + ROUNDING


@pytest.mark.parametrize("gamma", GAMMAS)
def test_diagonal_is_zero_or_has_its_variance(gamma):
    N = 1500
    assert np.all(np.diag(random_couplings(50, gamma, 3)) == 0)
    square = N * np.diag(random_couplings(N, gamma, 3, diagonal=True)) ** 2
    error = 4 * (1 + gamma) * math.sqrt(2 / N)
    assert abs(square.mean() - (1 + gamma)) <= error


def test_diagonal_changes_nothing_else():
    with_it = random_couplings(7, 0.3, 2, diagonal=True)
    np.fill_diagonal(with_it, 0)
    np.testing.assert_array_equal(with_it, random_couplings(7, 0.3, 2))


@given(seed=seeds, N=st.integers(1, 20))
def test_extremes_are_symmetric_and_antisymmetric_to_the_last_digit(seed, N):
    for sign in (1.0, -1.0):
        J = random_couplings(N, sign, seed, diagonal=True)
        np.testing.assert_array_equal(J, sign * J.T)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_eigenvalues_fill_an_ellipse(gamma):
    values = np.linalg.eigvals(random_couplings(800, gamma, 4))
    # Fluctuations at the edge are of order N^{-1/2} at most, up to logarithms.
    assert values.real.max() == pytest.approx(1 + gamma, abs=0.08)
    assert values.imag.max() == pytest.approx(1 - gamma, abs=0.08)


def test_seed_or_generator_of_it_give_the_same_couplings():
    J = random_couplings(5, 0.2, 9)
    np.testing.assert_array_equal(J, random_couplings(5, 0.2, np.random.default_rng(9)))
    assert not np.any(J[0, 1:] == random_couplings(5, 0.2, 8)[0, 1:])


# --- velocity and speed -------------------------------------------------------------


def test_velocity_is_that_of_the_sum_over_neurons():
    J, g = random_couplings(4, 0.3, 0, diagonal=True), 1.7
    x = np.random.default_rng(1).standard_normal(4)
    for i in range(4):
        sent = sum(J[i, j] * math.tanh(x[j]) for j in range(4))
        assert velocity(x, J, g)[i] == pytest.approx(-x[i] + g * sent, abs=ROUNDING)
    assert speed_energy(x, J, g) == pytest.approx((velocity(x, J, g) ** 2).sum() / 2)


@settings(deadline=None)
@given(seed=seeds, N=st.integers(1, 12), R=st.integers(1, 6), g=st.floats(0, 4))
def test_velocity_is_odd_and_replicas_do_not_meet(seed, N, R, g):
    rng = np.random.default_rng(seed)
    J = random_couplings(N, rng.uniform(-1, 1), rng)
    x = 3 * rng.standard_normal((N, R))
    given = x.copy()
    np.testing.assert_array_equal(velocity(-x, J, g), -velocity(x, J, g))
    for function in (velocity, speed_gradient):
        single = np.stack([function(column, J, g) for column in x.T], axis=1)
        np.testing.assert_allclose(
            function(x, J, g), single, rtol=ROUNDING, atol=ROUNDING * (1 + g) ** 2 * 10
        )
    assert speed_energy(x, J, g).shape == (R,)
    np.testing.assert_array_equal(x, given)


@settings(deadline=None)
@given(
    seed=seeds,
    N=st.integers(1, 8),
    R=st.integers(1, 5),
    g=st.floats(0, 3),
    gamma=gammas,
)
def test_gradient_is_the_numerical_one(seed, N, R, g, gamma):
    rng = np.random.default_rng(seed)
    J = random_couplings(N, gamma, rng, diagonal=True)
    x = rng.standard_normal((N, R))
    # An error of h^4 with four points; rounding adds 1e-16 E / h.
    h = 1e-3
    numerical = np.empty_like(x)
    for i in range(N):
        step = np.zeros((N, 1))
        step[i] = h
        near, far = (
            speed_energy(x + k * step, J, g) - speed_energy(x - k * step, J, g)
            for k in (1, 2)
        )
        numerical[i] = (8 * near - far) / (12 * h)
    gradient = speed_gradient(x, J, g)
    scale = 1 + np.abs(gradient).max()
    np.testing.assert_allclose(gradient, numerical, rtol=0, atol=1e-7 * scale)


def test_gradient_is_zero_at_fixed_points():
    points = fixed_points(BISTABLE, 2.0, np.random.default_rng(0).normal(0, 3, (2, 40)))
    assert len(points.points) == 9
    x = points.points.T
    assert np.abs(speed_gradient(x, BISTABLE, 2.0)).max() < 1e-10
    assert speed_energy(x, BISTABLE, 2.0).max() < 1e-20


# --- the dynamics -------------------------------------------------------------------


@pytest.mark.parametrize("R", [1, 2, 5])
def test_small_states_follow_the_matrix_exponential(R):
    N, g, times = 6, 1.3, [0.0, 0.3, 1.0, 2.7]
    J = random_couplings(N, -0.3, 5)
    x0 = 1e-6 * np.random.default_rng(0).standard_normal((N, R))
    x = trajectory(J, g, x0, times, dt=0.01)
    assert x.shape == (4, N, R)
    np.testing.assert_array_equal(x[0], x0)
    for time, state in zip(times, x, strict=True):
        exact = expm(time * (g * J - np.eye(N))) @ x0
        # Of order dt^4, and of x^2.
        np.testing.assert_allclose(state, exact, rtol=0, atol=1e-8 * 1e-6)


def test_trajectory_is_of_order_four():
    N = 8
    J = random_couplings(N, 0.0, 2)
    x0 = np.random.default_rng(3).standard_normal((N, 2))
    exact = trajectory(J, 2.0, x0, [2.0], dt=0.002)
    errors = [
        np.abs(trajectory(J, 2.0, x0, [2.0], dt=dt) - exact).max() for dt in (0.1, 0.05)
    ]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(4, abs=0.2)


def test_steps_land_on_the_times(told):
    J = random_couplings(5, 0.0, 2)
    x0 = np.random.default_rng(3).standard_normal((5, 1))
    times = np.array([0.0, 0.1, 0.3, 0.6, 0.61, 1.0, 1.1])
    x = trajectory(J, 1.5, x0, times)
    # As many steps of at most 0.1 as are needed; 1.1 - 1.0 > 0.1 by rounding alone.
    assert told[0] == (1.1, "network dynamics")
    np.testing.assert_allclose(
        told[1:], [0.1] + 2 * [0.1] + 3 * [0.1] + [0.01] + 4 * [0.39 / 4] + [0.1]
    )
    for k, time in enumerate(times):
        alone = trajectory(J, 1.5, x0, [time], dt=0.01)[0]
        np.testing.assert_allclose(x[k], alone, atol=1e-5)


def test_symmetric_network_descends_the_potential_of_hopfield():
    # dV/dt = -sum phi' F^2, with V = sum (x phi - log cosh x) - g phi J phi / 2.
    N, g = 40, 1.5
    J = random_couplings(N, 1.0, 3)
    x0 = np.random.default_rng(3).standard_normal((N, 3))
    x = trajectory(J, g, x0, np.linspace(0, 20, 81))
    phi = np.tanh(x)
    V = (x * phi - np.log(np.cosh(x)) - g / 2 * phi * (J @ phi)).sum(axis=1)
    assert np.all(np.diff(V, axis=0) < 0)
    np.testing.assert_allclose(
        np.diff(V[:2], axis=0)[0] / 0.25,
        -((1 - phi[:2] ** 2) * (g * J @ phi[:2] - x[:2]) ** 2).sum(1).mean(0),
        rtol=0.1,
    )


def test_unstable_dynamics_is_told_with_its_time():
    with pytest.raises(
        FloatingPointError, match=r"not finite at time 5000\.0; a dt shorter than 5"
    ):
        trajectory(CYCLE, 1.0, [[1.0], [0.5]], [1.0, 5000.0, 6000.0], dt=5.0)


# --- Langevin -----------------------------------------------------------------------


@pytest.mark.parametrize("dt", [0.1, 0.5, 1.5])
def test_variance_in_a_quadratic_well_has_no_error_of_the_step(dt):
    # Slowest decay: exp(-friction t / 2).
    T, steps = 0.7, math.ceil(40 / dt)
    J = np.zeros((2, 2))
    x = langevin(J, 0.0, T, np.zeros((2, 20_000)), steps, 1, dt=dt)[0]
    assert_standard(x.T / T**0.5)


@pytest.mark.parametrize("gamma", [-0.6, 0.7])
def test_covariance_of_a_linear_network(gamma):
    N, g, T = 3, 0.7, 1e-8
    J = random_couplings(N, gamma, 6)
    slope = g * J - np.eye(N)
    assert np.linalg.svd(slope)[1].min() > 0.25
    x = langevin(J, g, T, np.zeros((N, 8_000)), 400, 2)[0]
    # The covariance is T (F'^T F')^{-1}.
    assert_standard((slope @ x).T / T**0.5)


def test_first_step_has_momenta_in_equilibrium():
    T, dt, friction = 2.0, 0.5, 0.8
    x = langevin(
        np.zeros((1, 1)),
        0.0,
        T,
        np.zeros((1, 40_000)),
        1,
        3,
        dt=dt,
        friction=friction,
    )[0]
    # dt / 2 of p, and of p exp(-friction dt) with fresh noise.
    variance = dt**2 * T * (1 + math.exp(-friction * dt)) / 2
    assert_standard(x.T / variance**0.5)


def test_cold_neuron_is_a_damped_oscillator():
    friction, time = 0.6, 4.0
    omega = math.sqrt(1 - friction**2 / 4)
    exact = math.exp(-friction * time / 2) * (
        math.cos(omega * time) + friction / (2 * omega) * math.sin(omega * time)
    )
    errors = []
    for steps in (40, 80):
        x = langevin(
            np.zeros((1, 1)),
            0.0,
            0.0,
            [[1.0]],
            steps,
            0,
            dt=time / steps,
            friction=friction,
        )
        errors.append(abs(x[0, 0, 0] - exact))
    assert errors[1] < 1e-3
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.1)


def test_without_temperature_the_energy_is_lost():
    N = 30
    J = random_couplings(N, 0.5, 1)
    x0 = np.random.default_rng(1).standard_normal((N, 3))
    x = langevin(J, 0.5, 0.0, x0, 800, 0, snapshots=[0, 50, 800])
    first, middle, last = (speed_energy(state, J, 0.5) for state in x)
    assert np.all(middle < first)
    assert np.all(last < 1e-9 * first)


def test_snapshots_are_those_of_one_run(told):
    J = random_couplings(4, 0.0, 1)
    x0 = np.ones((4, 2))
    kept = langevin(J, 1.0, 0.1, x0, 9, 5, snapshots=[0, 3, 7])
    assert told == [(7, "Langevin dynamics"), *7 * [1]]
    assert kept.shape == (3, 4, 2)
    np.testing.assert_array_equal(kept[0], x0)
    for state, steps in zip(kept, (0, 3, 7), strict=True):
        alone = langevin(J, 1.0, 0.1, x0, steps, np.random.default_rng(5))[0]
        np.testing.assert_array_equal(state, alone)
    other = langevin(J, 1.0, 0.1, x0, 7, 6)[0]
    assert not np.any(other == kept[-1])
    np.testing.assert_array_equal(x0, 1)


def test_activity_of_a_large_network_is_that_of_the_theory():
    N, g, T = 400, 0.9, 0.1
    J = random_couplings(N, 0.0, 1)
    start = np.random.default_rng(2).standard_normal((N, 6))
    x = langevin(J, g, T, start, 1600, 3, snapshots=range(400, 1601, 20))
    q = paramagnet(g, 0.0, T).q
    assert np.mean(np.tanh(x) ** 2) == pytest.approx(q, rel=0.05)
    energies = [speed_energy(state, J, g).mean() / N for state in x]
    assert np.mean(energies) == pytest.approx(T / 2, rel=0.02)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("N", [1, 2, 100])
def test_steps_that_are_unstable_at_the_origin_are_refused(gamma, N):
    g = 1.5
    J = random_couplings(N, gamma, 8, diagonal=True)
    limit = 2 / np.linalg.norm(g * J - np.eye(N), 2)
    start = np.zeros((N, 1))
    langevin(J, g, 0.1, start, 1, 0, dt=0.99 * limit)
    message = r"^dt must be at most 2 / omega = \d\S* at x = 0, got "
    with pytest.raises(ValueError, match=message):
        langevin(J, g, 0.1, start, 1, 0, dt=1.02 * limit)


def test_flat_energy_allows_any_step():
    x = langevin(np.eye(1), 1.0, 0.0, [[0.0]], 3, 0, dt=100.0)
    assert x[0, 0, 0] == 0


def test_states_that_overflow_are_told_with_their_step(monkeypatch):
    gradients = iter([0.0, 0.0, math.inf] + [0.0] * 9)
    monkeypatch.setattr(
        "fpbook.random_networks._speed_gradient",
        lambda x, J, g: np.full_like(x, next(gradients)),
    )
    with pytest.raises(
        FloatingPointError, match="not finite at step 3: x0 or the temp"
    ):
        langevin(
            np.ones((3, 3)),
            1.0,
            0.1,
            np.ones((3, 1)),
            9,
            0,
            snapshots=[0, 3, 9],
        )


# --- Lyapunov exponents -------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 5])
def test_exponents_at_the_origin_are_eigenvalues(k):
    N, g = 5, 1.4
    J = random_couplings(N, 1.0, 3)
    values = np.linalg.eigvalsh(g * J - np.eye(N))[::-1]
    assert values[0] > 0 > values[1]
    found = lyapunov_spectrum(J, g, k, 30.0, dt=0.02, warm_up=100.0, x0=np.zeros(N))
    # Runge-Kutta multiplies by exp(l dt), up to (l dt)^5 / 120.
    np.testing.assert_allclose(found, values[:k], rtol=0, atol=1e-5)


def test_exponents_of_a_spiral_are_real_parts():
    b, g = 0.6, 0.9
    J = np.array([[1.0, -b], [b, 1.0]])
    found = lyapunov_spectrum(J, g, 2, 50.0, warm_up=0.0, x0=[0.0, 0.0])
    np.testing.assert_allclose(found, [g - 1] * 2, atol=1e-6)


def test_exponents_of_an_equilibrium_are_those_of_its_slopes():
    g, start = 2.0, np.array([2.0, 1.5])
    point = trajectory(BISTABLE, g, start[:, None], [200.0])[0, :, 0]
    assert np.abs(velocity(point, BISTABLE, g)).max() < ROUNDING
    values = np.linalg.eigvals(slopes(point, BISTABLE, g)).real
    found = lyapunov_spectrum(BISTABLE, g, 2, 20.0, warm_up=300.0, x0=start)
    np.testing.assert_allclose(found, np.sort(values)[::-1], atol=1e-5)


def test_exponents_of_a_limit_cycle_are_zero_and_the_mean_trace():
    # No change along the flow; all of the contraction is across it.
    g, T = 2.0, 500.0
    start = np.array([[1.0], [0.3]])
    x = trajectory(CYCLE, g, start, np.arange(50, 50 + T, 0.1))[..., 0]
    trace = -2 + g * (1 - np.tanh(x) ** 2).sum(axis=1).mean()
    found = lyapunov_spectrum(CYCLE, g, 2, T, x0=start[:, 0])
    # A period is about 10: the mean is off by a hundredth of its oscillations.
    assert found[0] == pytest.approx(0, abs=2e-3)
    assert found.sum() == pytest.approx(trace, abs=2e-3)
    assert found[1] < -0.5


@pytest.mark.parametrize("k", [1, 2, 4])
def test_exponents_are_growth_of_volume_between_neighbours(k):
    N, g, T, h = 6, 2.0, 4.0, 1e-5
    J = random_couplings(N, 0.0, 3)
    x0 = np.random.default_rng(0).standard_normal(N)
    found = lyapunov_spectrum(J, g, k, T, dt=0.05, warm_up=0.0, x0=x0, seed=4)
    tangents = np.linalg.qr(np.random.default_rng(4).standard_normal((N, k)))[0]
    near, far = (
        trajectory(J, g, x0[:, None] + sign * h * tangents, [T], dt=0.05)[0]
        for sign in (1, -1)
    )
    moved = (near - far) / (2 * h)
    volume = np.linalg.slogdet(moved.T @ moved)[1] / 2
    assert found.sum() == pytest.approx(volume / T, abs=1e-7)


def test_mean_of_all_exponents_is_minus_one():
    N = 12
    J = random_couplings(N, 0.0, 1)
    found = lyapunov_spectrum(J, 2.0, N, 40.0, dt=0.05, warm_up=0.0)
    assert np.all(np.diff(found) <= 0)
    assert found.mean() == pytest.approx(-1, abs=1e-4)


@pytest.mark.parametrize("between", [2, 10, 20])
def test_exponents_do_not_depend_on_how_often_tangents_are_turned(between):
    # The triangular factors of a product are products of triangular factors.
    J = random_couplings(6, 0.0, 4)
    often = lyapunov_spectrum(J, 1.8, 6, 20.0, warm_up=10.0, between=1)
    rare = lyapunov_spectrum(J, 1.8, 6, 20.0, warm_up=10.0, between=between)
    np.testing.assert_allclose(rare, often, atol=1e-7)


def test_fewer_exponents_are_the_largest_ones():
    J = random_couplings(30, 0.0, 1)
    three = lyapunov_spectrum(J, 2.0, 3, 400.0)
    one = lyapunov_spectrum(J, 2.0, 1, 400.0)
    # Both are the same average, after tangents have found their place.
    assert three[0] == pytest.approx(one[0], abs=5e-3)


def test_times_are_whole_blocks(told):
    J = random_couplings(3, 0.0, 1)
    lyapunov_spectrum(J, 1.0, 1, 2.6, dt=0.1, between=5, warm_up=0.01)
    assert told == [(6, "Lyapunov exponents"), *6 * [1]]
    told.clear()
    lyapunov_spectrum(J, 1.0, 1, 0.01, dt=0.1, between=5, warm_up=0.0)
    assert told == [(1, "Lyapunov exponents"), 1]


def test_exponents_are_reproducible_by_seed_or_generator():
    J = random_couplings(6, 0.0, 1)
    found = lyapunov_spectrum(J, 2.0, 2, 3.0, seed=4)
    again = lyapunov_spectrum(J, 2.0, 2, 3.0, seed=np.random.default_rng(4))
    np.testing.assert_array_equal(found, again)
    assert not np.any(found == lyapunov_spectrum(J, 2.0, 2, 3.0, seed=5))


def test_unstable_tangents_are_told_with_their_time():
    message = "not finite at time 5000; a dt shorter than 5.0, or fewer steps between "
    with pytest.raises(FloatingPointError, match=message):
        lyapunov_spectrum(CYCLE, 1.0, 1, 1e4, dt=5.0, between=1000)


# --- fixed points -------------------------------------------------------------------


def test_fixed_points_of_one_neuron():
    g = 2.0
    found = fixed_points(np.ones((1, 1)), g, [[-3.0, 0.1, 2.0]])
    root = brentq(lambda x: g * math.tanh(x) - x, 1, 3, xtol=1e-15)
    np.testing.assert_allclose(
        np.sort(found.points[:, 0]), [-root, 0, root], atol=1e-10
    )
    determinant = abs(-1 + g / math.cosh(root) ** 2)
    np.testing.assert_allclose(
        found.log_abs_det, np.log([1, determinant, determinant]), atol=1e-9
    )
    assert found.unstable.tolist() == [1, 0, 0]
    np.testing.assert_allclose(found.activity, [0] + 2 * [(root / g) ** 2], atol=1e-10)
    assert found.missed == 0


@pytest.fixture(scope="module")
def nine():
    starts = np.random.default_rng(0).normal(0, 3, (2, 60))
    return fixed_points(BISTABLE, 2.0, starts)


def test_two_neurons_have_nine_fixed_points(nine):
    assert nine.unstable.tolist() == [2] + 4 * [1] + 4 * [0]
    assert nine.missed == 0
    assert np.all(np.diff(nine.activity) > -ROUNDING)
    np.testing.assert_allclose(nine.activity, (np.tanh(nine.points) ** 2).mean(axis=1))
    assert np.abs(velocity(nine.points.T, BISTABLE, 2.0)).max() < 1e-11
    # With each point its opposite, and its turn by 90 degrees: J commutes with it.
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    for image in (-nine.points, nine.points @ turn.T):
        distance = np.linalg.norm(image[:, None] - nine.points, axis=2)
        assert np.all((distance < 1e-9).sum(axis=1) == 1)


def test_masses_of_nine_fixed_points_are_the_known_ones(nine):
    # 1 / |det|, normalised; finite volumes at T = 0.003 gave 0.0850, 0.1043, 0.1245.
    masses = np.exp(-nine.log_abs_det)
    masses /= masses.sum()
    expected = [0.0846] + 4 * [0.1041] + 4 * [0.1247]
    np.testing.assert_allclose(masses, expected, atol=6e-5)


def test_determinants_are_those_of_numerical_derivatives():
    N, g, h = 12, 3.0, 1e-5
    J = random_couplings(N, 0.3, 12)
    found = fixed_points(J, g, np.random.default_rng(0).normal(0, 2, (N, 100)))
    assert len(found.points) > 4
    # From near by, the method has the speed of Newton's, with the right slopes alone.
    near = found.points.T + 1e-3
    again = fixed_points(J, g, near, iterations=10)
    assert again.missed == 0
    for point, log_abs_det, unstable in zip(*found[:3], strict=True):
        columns = [
            (velocity(point + step, J, g) - velocity(point - step, J, g)) / (2 * h)
            for step in h * np.eye(N)
        ]
        slope = np.stack(columns, axis=1)
        assert log_abs_det == pytest.approx(
            math.log(abs(np.linalg.det(slope))), abs=1e-6
        )
        assert unstable == np.sum(np.linalg.eigvals(slope).real > 0)


def test_points_do_not_depend_on_the_starts_that_are_in_memory(nine, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 1)
    starts = np.random.default_rng(0).normal(0, 3, (2, 60))
    one_by_one = fixed_points(BISTABLE, 2.0, starts)
    distance = np.linalg.norm(one_by_one.points[:, None] - nine.points, axis=2)
    assert np.all((distance < 1e-9).sum(axis=1) == 1)
    assert one_by_one.missed == 0


def test_all_fixed_points_of_a_contraction_are_the_origin():
    N = 20
    J = random_couplings(N, 0.0, 0)
    found = fixed_points(J, 0.3, np.random.default_rng(0).standard_normal((N, 9)))
    np.testing.assert_array_equal(found.points, np.zeros((1, N)))
    assert (found.unstable.tolist(), found.missed) == ([0], 0)
    log_abs_det = np.linalg.slogdet(0.3 * J - np.eye(N))[1]
    assert found.log_abs_det == pytest.approx(log_abs_det)


def test_starts_that_miss_are_counted():
    # Where F' = 0 and F is not, between two fixed points, the speed is stationary; and
    # one step from afar is not enough. No starts at all miss nothing.
    g = 2.0
    top = math.acosh(math.sqrt(g))
    J = np.ones((1, 1))
    found = fixed_points(J, g, [[top, 2.0]])
    assert (len(found.points), found.missed) == (3, 1)
    assert fixed_points(J, g, [[9.0, 0.0]], iterations=1).missed == 1
    # The last step counts as well: it takes one to solve a linear problem at g = 0.
    assert fixed_points(J, 0.0, [[1e-12, 0.0]], iterations=1).missed == 0
    empty = fixed_points(J, g, np.empty((1, 0)))
    assert (len(empty.points), empty.missed) == (1, 0)


def test_last_iteration_can_arrive():
    start, steps = [[2.5]], []
    for iterations in range(1, 30):
        steps.append(fixed_points(np.ones((1, 1)), 2.0, start, iterations=iterations))
    arrived = [found.missed == 0 for found in steps].index(True) + 1
    # Damped by 0.1 / 5^k, then quadratic: it takes a few, and as many as an own loop.
    x, damping, count = 2.5, 0.1, 0
    while abs(F := 2 * math.tanh(x) - x) > 1e-11:
        slope = 2 / math.cosh(x) ** 2 - 1
        new = x - slope * F / (slope**2 + damping)
        better = abs(2 * math.tanh(new) - new) < abs(F)
        x, damping = (new, damping / 5) if better else (x, damping * 4)
        count += 1
    assert arrived == count


def test_singular_slopes_are_no_failure():
    # At g = 1 the origin is a bifurcation along (1, 1).
    J = np.full((2, 2), 0.5)
    found = fixed_points(J, 1.0, np.array([[0.5, 1.0, -0.2], [0.5, -1.0, 0.3]]))
    assert np.all(found.unstable <= 1)
    # x^3 / 3 is below the tolerance as far as 3e-4 from it.
    assert np.abs(found.points).max() < 4e-4
    assert found.log_abs_det[0] < -30


# --- quiet planting -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("g", "gamma", "T"),
    [(1.2, 0.0, 1e-2), (0.8, 0.5, 0.1), (0.75, 1.0, 0.1), (1.2, -0.5, 0.1)],
)
def test_planted_networks_are_typical(g, gamma, T):
    N, draws = 1000, 5
    theory = paramagnet(g, gamma, T)
    pairs = np.triu_indices(N, 1)
    squares, energies = [], []
    for seed in range(draws):
        J, x = plant(N, g, gamma, T, seed)
        assert (J.shape, x.shape) == ((N, N), (N,))
        squares.append(np.tanh(x) ** 2)
        energies.append(speed_energy(x, J, g) / N)
        # Of the planted part, 1 / N is left in each average.
        error = 4 * math.sqrt((1 + gamma**2) / len(pairs[0])) + 4 / N
        one, other = N**0.5 * J[pairs], N**0.5 * J.T[pairs]
        assert abs(np.mean(one**2 + other**2) / 2 - 1) < error
        assert abs(np.mean(one * other) - gamma) < error
    squares = np.concatenate(squares)
    assert abs(squares.mean() - theory.q) < 4 * squares.std() / math.sqrt(N * draws)
    # N components of F of variance T, in the mean.
    e = T / 2 + T**2 * theory.qhat / g**2
    assert np.mean(energies) == pytest.approx(e, rel=4 * math.sqrt(2 / (N * draws)))


@pytest.mark.parametrize("gamma", [-0.9, 0.0, 0.6])
def test_planted_couplings_have_the_law_given_the_state(gamma, monkeypatch):
    # Given x, J is Gaussian with density P(J) exp(-E / T): so is F = -x + g J phi, with
    # mean -T M x and covariance T g^2 C M, M = (g^2 C + T)^{-1}, at any size.
    N, g, T, draws = 3, 1.1, 0.3, 2000
    solved = paramagnet(g, gamma, T)
    monkeypatch.setattr(module, "paramagnet", lambda *_: solved)
    rng = np.random.default_rng(1)
    standard = np.empty((draws, N))
    for k in range(draws):
        J, x = plant(N, g, gamma, T, rng)
        phi = np.tanh(x)
        C = phi @ phi / N * np.eye(N) + gamma / N * np.outer(phi, phi)
        M = np.linalg.inv(g**2 * C + T * np.eye(N))
        root = np.linalg.cholesky(T * g**2 * C @ M)
        standard[k] = np.linalg.solve(root, velocity(x, J, g) + T * M @ x)
    assert_standard(standard)


def test_planted_state_is_stationary():
    # Without planting, starts at these temperatures drift for a thousand time units.
    N, g, T = 500, 1.2, 1e-3
    J, x = plant(N, g, 0.0, T, 2)
    start = np.repeat(x[:, None], 4, axis=1)
    states = langevin(J, g, T, start, 800, 1, snapshots=range(200, 801, 50))
    activity = np.mean(np.tanh(states) ** 2)
    assert activity == pytest.approx(np.mean(np.tanh(x) ** 2), rel=0.1)
    energies = [speed_energy(state, J, g) / N for state in states]
    assert np.mean(energies) == pytest.approx(T / 2, rel=0.05)


def test_couplings_that_are_planted_keep_their_symmetry():
    for sign in (1.0, -1.0):
        J, _ = plant(30, 0.4, sign, 0.1, 0)
        np.testing.assert_allclose(J, sign * J.T, atol=ROUNDING)


def test_planting_is_reproducible_by_seed_or_generator():
    one, again, other = (plant(5, 0.9, 0.2, 0.1, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.J, again.J)
    np.testing.assert_array_equal(one.x, again.x)
    assert not np.any(one.x == other.x)
    generator = plant(5, 0.9, 0.2, 0.1, np.random.default_rng(3))
    np.testing.assert_array_equal(one.J, generator.J)


def test_planting_is_refused_where_replicas_overlap():
    message = (
        "^g, gamma, temperature must be where the overlap Q is 0, got 2, -0.5, 0.1"
    )
    with pytest.raises(ValueError, match=message):
        plant(10, 2, -0.5, 0.1, 0)


# --- arguments ----------------------------------------------------------------------

J3 = random_couplings(3, 0.0, 0)
GOOD = {
    random_couplings: {"N": 3, "gamma": 0.1, "seed": 0},
    velocity: {"x": np.zeros(3), "J": J3, "g": 1.0},
    speed_energy: {"x": np.zeros((3, 2)), "J": J3, "g": 1.0},
    speed_gradient: {"x": np.zeros((3, 2)), "J": J3, "g": 1.0},
    trajectory: {"J": J3, "g": 1.0, "x0": np.zeros((3, 1)), "times": [0.1]},
    langevin: {
        "J": J3,
        "g": 1.0,
        "temperature": 0.1,
        "x0": np.zeros((3, 1)),
        "steps": 2,
        "seed": 0,
    },
    lyapunov_spectrum: {"J": J3, "g": 1.0, "k": 2, "time": 0.5, "warm_up": 0.0},
    fixed_points: {"J": J3, "g": 1.0, "starts": np.zeros((3, 1))},
    plant: {"N": 3, "g": 0.9, "gamma": 0.0, "temperature": 0.1, "seed": 0},
}
NETWORKS = [f for f in GOOD if "J" in GOOD[f]]
SQUARE = "finite and square, shape (N, N) with N >= 1"
BAD = [
    (function, "J", value, SQUARE)
    for function in NETWORKS
    for value in (
        np.zeros((3, 2)),
        np.zeros((0, 0)),
        1.0,
        [np.nan],
        np.full((3, 3), np.inf),
    )
]
BAD += [
    (function, "g", value, allowed)
    for function in NETWORKS
    for value, allowed in ((-0.1, "finite and >= 0"), ([1.0, 2.0], "a single number"))
]
BAD += [
    (function, name, value, f"finite and of shape {shape}")
    for function, name, shape in (
        (velocity, "x", "(3,) or (3, R)"),
        (speed_energy, "x", "(3,) or (3, R)"),
        (speed_gradient, "x", "(3,) or (3, R)"),
        (trajectory, "x0", "(3, R)"),
        (langevin, "x0", "(3, R)"),
        (lyapunov_spectrum, "x0", "(3,)"),
        (fixed_points, "starts", "(3, R)"),
    )
    for value in (
        0.0,
        np.zeros((4, 1)),
        np.zeros((3, 1, 1)),
        np.full((3, 1), np.nan) if "R" in shape else np.full(3, np.inf),
        np.zeros(3) if "or" not in shape and "R" in shape else np.zeros(2),
    )
]
BAD += [
    (function, name, value, f"an integer >= {smallest}")
    for function, name, smallest in (
        (random_couplings, "N", 1),
        (plant, "N", 1),
        (langevin, "steps", 0),
        (lyapunov_spectrum, "between", 1),
        (fixed_points, "iterations", 1),
        (random_couplings, "seed", 0),
        (langevin, "seed", 0),
        (lyapunov_spectrum, "seed", 0),
        (plant, "seed", 0),
    )
    for value in (smallest - 1, 2.5)
]
BAD += [
    (function, name, value, "finite and > 0")
    for function, name in (
        (trajectory, "dt"),
        (langevin, "dt"),
        (langevin, "friction"),
        (lyapunov_spectrum, "dt"),
        (lyapunov_spectrum, "time"),
        (fixed_points, "tolerance"),
        (fixed_points, "distinct"),
        (plant, "g"),
        (plant, "temperature"),
    )
    for value in (0.0, np.inf, np.nan)
]
BAD += [
    (langevin, "temperature", -0.1, "finite and >= 0"),
    (lyapunov_spectrum, "warm_up", -1.0, "finite and >= 0"),
    (lyapunov_spectrum, "k", 4, "an integer from 1 to 3"),
    (lyapunov_spectrum, "k", 0, "an integer from 1 to 3"),
    (langevin, "snapshots", [0, 3], "increasing integers from 0 to 2"),
    (trajectory, "times", [1.0, 0.5], ">= 0 and increasing"),
    (trajectory, "times", [-1.0], ">= 0 and increasing"),
]
BAD += [
    (function, "gamma", value, "a number from -1 to 1")
    for function in (random_couplings, plant)
    for value in (-1.1, 1.01, np.nan, [0.0, 0.1])
]


@pytest.mark.parametrize(
    ("function", "name", "value", "allowed"),
    BAD,
    ids=lambda x: getattr(x, "__name__", None),
)
def test_bad_arguments_are_named(function, name, value, allowed):
    message = rf"^{name} must be {re.escape(allowed)}.*, got "
    with pytest.raises(ValueError, match=message):
        function(**{**GOOD[function], name: value})


@pytest.mark.parametrize("function", GOOD, ids=lambda f: f.__name__)
def test_lists_and_integers_are_arrays(function):
    given = {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in GOOD[function].items()
    }
    one, other = function(**GOOD[function]), function(**given)
    if not isinstance(one, tuple):
        one, other = (one,), (other,)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)
    if "J" in given:
        function(**{**given, "J": np.eye(3, dtype=int)})
