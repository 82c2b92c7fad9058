"""Mean field against averages of the gradient and the joint density.

Independent references: the package's gradient averaged over points that are exact for
normal densities; closed forms; and the Fokker-Planck equation of both weights together,
which the mean field approximates.
"""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import simpson, solve_ivp
from scipy.stats import norm

from fpbook.autoencoder import (
    frozen_hessian,
    matrix_gradient,
    ornstein_uhlenbeck,
    scalar_loss,
)
from fpbook.fokker_planck import (
    FokkerPlanck,
    Grid,
    MassAtWallWarning,
    NegativeDensityWarning,
    gaussian,
)
from fpbook.mean_field import (
    Moments,
    mean_field,
    mean_field_moments,
    mutual_information,
    output_density,
    total_variation,
)

# A handful of float64 operations: a few units of 1.1e-16, with a margin of 100.
ROUNDING = 1e-13

seeds = st.integers(0, 2**32 - 1)


def random_network(seed, k, d):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(d, d))
    return rng.normal(size=(k, d)), rng.normal(size=(d, k)), root @ root.T / d


# --- normal densities ---------------------------------------------------------------


def sigma_points(mean, covariance):
    """Points whose average is exact for polynomials of degree 2 in the entries."""
    root = np.linalg.cholesky(covariance + 1e-300 * np.eye(len(covariance)))
    moves = math.sqrt(len(covariance)) * np.concatenate([root.T, -root.T])
    return (mean.ravel() + moves).reshape(-1, *mean.shape)


def brute_force_moments(mean1, covariance1, mean2, covariance2, time, T, S, decay):
    """Moments from averages of the package's gradient over the other matrix."""
    size = mean1.size

    def average(which, mean, others):
        gradients = [
            matrix_gradient(*((mean, x) if which == 0 else (x, mean)), S, decay)[which]
            for x in others
        ]
        return np.mean(gradients, axis=0).ravel()

    def hessian(which, mean, others):
        # The averaged gradient is linear in the matrix.
        columns = [
            average(which, mean + e.reshape(mean.shape), others)
            - average(which, mean, others)
            for e in np.eye(size)
        ]
        return np.transpose(columns)

    def velocity(_, y):
        M1, M2 = y[:size].reshape(mean1.shape), y[size : 2 * size].reshape(mean2.shape)
        V1, V2 = y[2 * size :].reshape(2, size, size)
        parts = []
        for which, mean, others in (
            (0, M1, sigma_points(M2, V2)),
            (1, M2, sigma_points(M1, V1)),
        ):
            parts.append(-average(which, mean, others))
        for which, mean, V, others in (
            (0, M1, V1, sigma_points(M2, V2)),
            (1, M2, V2, sigma_points(M1, V1)),
        ):
            H = hessian(which, mean, others)
            parts.append((-H @ V - V @ H + 2 * T * np.eye(size)).ravel())
        return np.concatenate(parts)

    start = [mean1.ravel(), mean2.ravel(), covariance1.ravel(), covariance2.ravel()]
    end = solve_ivp(velocity, (0, time), np.concatenate(start), rtol=1e-9, atol=1e-9).y[
        :, -1
    ]
    parts = np.split(end, [size, 2 * size, 2 * size + size**2])
    return [
        part.reshape(shape)
        for part, shape in zip(
            parts, (mean1.shape, mean2.shape, *[(size, size)] * 2), strict=True
        )
    ]


@pytest.mark.parametrize(("k", "d"), [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_moments_average_the_gradient_over_the_other_matrix(k, d):
    rng = np.random.default_rng(10)
    mean1, mean2, S = random_network(11, k, d)
    roots = 0.4 * rng.normal(size=(2, k * d, k * d))
    covariance1, covariance2 = (a @ a.T + 0.05 * np.eye(k * d) for a in roots)
    T, decay, time = 0.1, 0.05, 0.7
    found = mean_field_moments(
        mean1, covariance1, mean2, covariance2, [0.0, time], T, S, decay
    )
    expected = brute_force_moments(
        mean1, covariance1, mean2, covariance2, time, T, S, decay
    )
    both = (found.mean1, found.mean2, found.covariance1, found.covariance2)
    start = (mean1, mean2, covariance1, covariance2)
    for values, first, last in zip(both, start, expected, strict=True):
        np.testing.assert_allclose(values[0], first, atol=1e-13)
        # 100 times the tolerance of the reference solution
        np.testing.assert_allclose(values[1], last, atol=1e-7)


def test_moments_of_a1_obey_their_four_equations():
    T, decay, s = 0.1, 0.05, 1.3

    def velocity(_, y):
        m1, v1, m2, v2 = y
        pull1, pull2 = s**2 * (m2**2 + v2) + decay, s**2 * (m1**2 + v1) + decay
        return [
            s**2 * m2 - pull1 * m1,
            2 * T - 2 * pull1 * v1,
            s**2 * m1 - pull2 * m2,
            2 * T - 2 * pull2 * v2,
        ]

    times = [1.0, 5.0, 20.0]
    reference = solve_ivp(
        velocity,
        (0, 20),
        [0.6, 0.04, 0.3, 0.09],
        "DOP853",
        times,
        rtol=1e-11,
        atol=1e-12,
    ).y
    found = mean_field_moments(0.6, 0.04, 0.3, 0.09, times, T, s**2, decay)
    assert found.mean1.shape == found.covariance1.shape == (3, 1, 1)
    values = (found.mean1, found.covariance1, found.mean2, found.covariance2)
    for value, expected in zip(values, reference, strict=True):
        np.testing.assert_allclose(value[:, 0, 0], expected, rtol=5e-9)


def test_frozen_means_follow_gradient_flow():
    mean1, mean2, S = random_network(12, 2, 3)
    found = mean_field_moments(
        mean1, 0.1, mean2, 0.2, [2.0], 0.3, S, 0.05, variant="frozen"
    )

    def velocity(_, y):
        gradient = matrix_gradient(y[:6].reshape(2, 3), y[6:].reshape(3, 2), S, 0.05)
        return -np.concatenate([g.ravel() for g in gradient])

    start = np.concatenate([mean1.ravel(), mean2.ravel()])
    end = solve_ivp(velocity, (0, 2), start, "DOP853", rtol=1e-11, atol=1e-12).y[:, -1]
    np.testing.assert_allclose(found.mean1[0].ravel(), end[:6], atol=1e-8)
    np.testing.assert_allclose(found.mean2[0].ravel(), end[6:], atol=1e-8)


def test_frozen_covariance_at_a_minimum_is_ornstein_uhlenbeck():
    # Weights at the minimum of A2 with S = 1: |W1|^2 = |W2|^2 = 1 - decay, aligned.
    decay, T = 0.2, 0.1
    direction = np.array([[0.6, 0.8]])
    W1 = math.sqrt(1 - decay) * direction
    times = [0.3, 4.0]
    found = mean_field_moments(
        W1, 0.04, W1.T, 0.09, times, T, np.eye(2), decay, variant="frozen"
    )
    np.testing.assert_allclose(found.mean1, [W1, W1], atol=1e-9)
    hessian = frozen_hessian(W1.T, np.eye(2), decay)
    _, covariances = ornstein_uhlenbeck(hessian, T, W1[0], W1[0], 0.04, times)
    np.testing.assert_allclose(found.covariance1, covariances, atol=1e-9)
    # In the second matrix the Hessian is 1 x (W1 S W1^T + decay) = 1.
    _, covariances = ornstein_uhlenbeck(np.eye(2), T, W1[0], W1[0], 0.09, times)
    np.testing.assert_allclose(found.covariance2, covariances, atol=1e-9)


def test_cold_mean_field_is_gradient_flow_and_conserves_balance():
    # Without noise, spread and decay W1 W1^T - W2^T W2 is conserved.
    mean1, mean2, S = random_network(13, 2, 3)
    found = mean_field_moments(mean1, 0.0, mean2, 0.0, [0.5, 3.0], 0.0, S)
    balance = mean1 @ mean1.T - mean2.T @ mean2
    for M1, M2 in zip(found.mean1, found.mean2, strict=True):
        np.testing.assert_allclose(M1 @ M1.T - M2.T @ M2, balance, atol=1e-8)
    np.testing.assert_allclose(found.covariance1, 0, atol=1e-12)


def test_moments_start_at_time_zero():
    found = mean_field_moments(0.6, 0.04, 0.3, 0.09, 0.0, 0.1)
    assert isinstance(found, Moments)
    assert found.mean1.item() == pytest.approx(0.6, rel=ROUNDING)
    assert found.covariance2.item() == pytest.approx(0.09, rel=ROUNDING)


def test_large_means_are_not_too_stiff():
    # Rates of |W1|^2 = 1e6: W2 sits at 1 / W1 with variance T / |W1|^2, W1 diffuses.
    found = mean_field_moments(1e3, 0.1, 0.3, 0.1, [1.0], 0.1)
    assert found.mean1.item() == pytest.approx(1e3, rel=1e-6)
    assert found.mean2.item() == pytest.approx(1e-3, rel=1e-3)
    assert found.covariance2.item() == pytest.approx(1e-7, rel=1e-3)
    assert found.covariance1.item() == pytest.approx(0.1 + 2 * 0.1, rel=1e-4)


def test_moments_that_overflow_are_refused():
    with pytest.raises(FloatingPointError, match="moments are too large at time 0"):
        mean_field_moments(1e150, 0.1, 0.3, 0.1, [1.0], 0.1, data_covariance=1e150)
    with pytest.raises(FloatingPointError, match="too large to be integrated at time"):
        mean_field_moments(1e120, 0.1, 0.3, 0.1, [1.0], 0.1)


def test_failed_integration_is_told(monkeypatch):
    class Failed:
        success = False

    monkeypatch.setattr("fpbook.mean_field.solve_ivp", lambda *_, **__: Failed())
    with pytest.raises(FloatingPointError, match="could not be integrated to time 2"):
        mean_field_moments(0.6, 0.04, 0.3, 0.09, [2.0], 0.1)


# --- densities of any shape ---------------------------------------------------------


def moments_of(densities, grid):
    mass = densities.reshape(len(densities), -1) * grid.cell_volume
    means = mass @ grid.points
    second = np.einsum("tn,ni,nj->tij", mass, grid.points, grid.points)
    return means, second - means[:, :, None] * means[:, None, :]


def test_mean_field_of_a1_has_the_moments_of_the_closure():
    T, decay, s2, times = 0.1, 0.05, 0.8, [0.0, 0.5, 2.0]
    grid1, grid2 = Grid(-3.0, 3.4, 320), Grid(-3.2, 3.2, 300)
    densities = mean_field(
        gaussian(grid1, 0.6, 0.25),
        grid1,
        gaussian(grid2, 0.3, 0.2),
        grid2,
        times,
        T,
        s2,
        decay,
    )
    found = mean_field_moments(0.6, 0.0625, 0.3, 0.04, times, T, s2, decay)
    for density, grid, mean, covariance in (
        (densities[0], grid1, found.mean1, found.covariance1),
        (densities[1], grid2, found.mean2, found.covariance2),
    ):
        assert density.shape == (3, *grid.shape)
        mass = density.sum(axis=1) * grid.cell_volume
        np.testing.assert_allclose(mass, 1, atol=1e-9)
        means, covariances = moments_of(density, grid)
        # 3e-4 from the cells (h^2 = 4e-4 times a factor below 1), 1e-4 from the steps
        np.testing.assert_allclose(means, mean[:, 0], atol=5e-4)
        np.testing.assert_allclose(covariances, covariance, atol=5e-4)
        shape = gaussian(grid, mean[-1, 0], math.sqrt(covariance[-1, 0, 0]))
        assert total_variation(density[-1], shape, grid) < 1e-3


def test_mean_field_of_a2_has_the_moments_of_the_closure():
    S = np.array([[1.0, 0.3], [0.3, 0.6]])
    M1, M2, T, decay, times = [[0.5, 0.2]], [[0.3], [0.4]], 0.1, 0.05, [0.4, 1.0]
    grid1, grid2 = (
        Grid([-2.6, -2.4], [2.6, 2.6], 100),
        Grid([-2.6, -2.5], [2.5, 2.6], 96),
    )
    found = mean_field_moments(
        M1, np.diag([0.09, 0.04]), M2, np.diag([0.04, 0.09]), times, T, S, decay
    )
    densities = mean_field(
        gaussian(grid1, [0.5, 0.2], [0.3, 0.2]),
        grid1,
        gaussian(grid2, [0.3, 0.4], [0.2, 0.3]),
        grid2,
        times,
        T,
        S,
        decay,
        coupling_step=0.1,
    )
    for density, grid, mean, covariance in (
        (densities[0], grid1, found.mean1, found.covariance1),
        (densities[1], grid2, found.mean2, found.covariance2),
    ):
        means, covariances = moments_of(density, grid)
        # cells of .05: h^2 = 2.5e-3 times a factor below 1/2; steps 5e-4
        np.testing.assert_allclose(means, mean.reshape(2, 2), atol=2e-3)
        np.testing.assert_allclose(covariances, covariance, atol=1e-3)


def test_two_hidden_units_of_a1_are_two_axes():
    # k = 2, d = 1: each matrix has two entries. Units that start alike stay alike.
    grid = Grid([-3, -3], [3, 3], 60)
    start = gaussian(grid, 0.4, 0.3)
    first, second = mean_field(start, grid, start, grid, [0.5], 0.1, 1.0, 0.05)
    np.testing.assert_allclose(first[0], first[0].T, atol=1e-12)
    found = mean_field_moments(
        [[0.4], [0.4]], 0.09, [[0.4, 0.4]], 0.09, [0.5], 0.1, 1.0, 0.05
    )
    means, covariances = moments_of(second, grid)
    np.testing.assert_allclose(means, found.mean2[:, 0, :], atol=5e-3)  # h^2 / 2
    np.testing.assert_allclose(covariances, found.covariance2, atol=5e-3)


def test_coupling_is_of_second_order():
    grid = Grid(-3, 3, 150)
    start1, start2 = gaussian(grid, 0.6, 0.25), gaussian(grid, 0.2, 0.25)
    ends = [
        mean_field(start1, grid, start2, grid, [1.6], 0.1, 1.0, 0.05, step)
        for step in (0.1, 0.05, 0.025, 0.0125)
    ]
    for which in (0, 1):
        gaps = [
            total_variation(a[which][0], b[which][0], grid)
            for a, b in itertools.pairwise(ends)
        ]
        orders = np.log2(np.array(gaps[:-1]) / gaps[1:])
        np.testing.assert_allclose(orders, 2, atol=0.1)  # the next order, at .1


def test_coupling_treats_the_matrices_alike():
    # Swapping them changes the splitting, hence the result only by its error.
    grid = Grid(-3, 3, 150)
    start1, start2 = gaussian(grid, 0.6, 0.25), gaussian(grid, 0.2, 0.3)
    a, b = mean_field(start1, grid, start2, grid, [1.0], 0.1, 1.0, 0.05, 0.02)
    b2, a2 = mean_field(start2, grid, start1, grid, [1.0], 0.1, 1.0, 0.05, 0.02)
    assert 0 < total_variation(a[0], a2[0], grid) < 2e-4
    assert 0 < total_variation(b[0], b2[0], grid) < 2e-4


def test_mean_field_takes_densities_of_any_shape():
    # Two humps in w1: each stays normal in the common quadratic loss with curvature
    # pull = <w2^2> + decay, their distance shrinks by exp(-int pull), and the moments
    # of the whole obey the closure as those of one hump would.
    T, decay, end = 0.1, 0.05, 0.5
    grid = Grid(-3.4, 3.4, 400)
    humps, std = (-0.5, 1.1), 0.2
    start1 = sum(gaussian(grid, m, std) for m in humps) / 2
    start2 = gaussian(grid, 0.5, 0.25)
    first, _ = mean_field(start1, grid, start2, grid, [end], T, 1.0, decay, 0.01)

    times = np.linspace(0, end, 101)
    spread = 0.8**2  # variance of the two centres around their mean .3
    found = mean_field_moments(0.3, std**2 + spread, 0.5, 0.0625, times, T, 1.0, decay)
    pull = (found.mean2**2 + found.covariance2)[:, 0, 0] + decay
    shrunk = math.exp(-simpson(pull, x=times))
    mean, variance = found.mean1[-1, 0, 0], found.covariance1[-1, 0, 0]
    hump = math.sqrt(variance - spread * shrunk**2)
    expected = sum(gaussian(grid, mean + sign * 0.8 * shrunk, hump) for sign in (-1, 1))
    assert total_variation(first[0], expected / 2, grid) < 1e-3


def test_rough_starts_are_damped():
    # All mass in one cell: Crank-Nicolson alone would ring, with dt 2 T / h^2 = 40.
    grid = Grid(-3, 3, 601)
    spike = np.zeros(601)
    spike[330] = 1 / grid.cell_volume
    for density in mean_field(spike, grid, spike, grid, [0.1], 0.1, 1.0, 0.05):
        assert density.min() > -1e-12
        # a single hump
        assert np.count_nonzero(np.diff(np.sign(np.diff(density[density > 1e-9])))) == 1


def test_coupling_step_is_the_longest():
    # Steps are shortened to divide each interval: .3 makes four steps of 1 / 4, and a
    # step that divides the time up to rounding is not shortened.
    grid = Grid(-3, 3, 60)
    start = gaussian(grid, 0.4, 0.3)
    # 2.1 / .3 is a little above 7 in floating point.
    for end, asked, taken in ((1.0, 0.3, 0.25), (2.1, 0.3, 0.301)):
        a, b = (
            mean_field(start, grid, start, grid, [end], 0.1, coupling_step=step)
            for step in (asked, taken)
        )
        np.testing.assert_array_equal(a, b)


def test_density_below_zero_is_told():
    # A decay of 20 wants steps shorter than a tenth.
    grid = Grid(-3, 3, 301)
    start = gaussian(grid, 0.3, 0.4)
    with pytest.warns(NegativeDensityWarning, match="matrix is below zero at time 1;"):
        mean_field(start, grid, start, grid, [1.0], 0.1, 1.0, 20.0, coupling_step=0.1)


def test_mass_at_a_wall_is_told():
    grid = Grid(-1, 1, 50)
    wide = np.full(50, 0.5)
    with pytest.warns(MassAtWallWarning, match=r"of the mass of the (first|second)"):
        mean_field(wide, grid, wide, grid, [0.1], 0.1)


# --- comparing densities ------------------------------------------------------------


def test_total_variation_of_shifted_normals():
    grid = Grid(-8, 8, 1600)
    p, q = gaussian(grid, -0.3, 1.0), gaussian(grid, 0.3, 1.0)
    # They cross at 0, a face: exact cell masses give the exact distance.
    assert total_variation(p, q, grid) == pytest.approx(
        2 * norm.cdf(0.3) - 1, abs=1e-12
    )
    assert total_variation(p, p, grid) == 0
    left, right = np.zeros(1600), np.zeros(1600)
    left[:100] = right[-100:] = 1.0
    assert total_variation(left, right, grid) == pytest.approx(1, abs=ROUNDING)


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_total_variation_is_a_distance(seed):
    grid = Grid([0, 0], [1, 2], [4, 3])
    p, q, r = np.random.default_rng(seed).dirichlet(np.ones(12), 3).reshape(3, 4, 3)
    p, q, r = (x / grid.cell_volume for x in (p, q, r))
    distance = total_variation(p, q, grid)
    assert 0 <= distance <= 1
    assert distance == total_variation(q, p, grid)
    around = total_variation(p, r, grid) + total_variation(r, q, grid)
    assert distance <= around + ROUNDING


@pytest.mark.parametrize("rho", [0.0, 0.5, -0.9])
def test_mutual_information_of_a_normal_density(rho):
    grid = Grid([-12, -6], [12, 6], [200, 210])
    w1, w2 = grid.points.T
    density = np.exp(
        -((w1 / 2) ** 2 - rho * w1 * w2 + w2**2) / (2 * (1 - rho**2))
    ).reshape(grid.shape)
    density /= density.sum() * grid.cell_volume
    # Sums at the centres converge faster than any power; the box is 6 standard
    # deviations wide.
    expected = -0.5 * math.log(1 - rho**2)
    assert mutual_information(density, grid) == pytest.approx(expected, abs=1e-6)


def test_mutual_information_of_a_coin():
    grid = Grid([0, 0], [1, 5], [2, 2])
    certain = np.diag([0.5, 0.5]) / grid.cell_volume
    assert mutual_information(certain, grid) == pytest.approx(math.log(2))
    # Rounding below zero is left out of the logarithms, not made an error.
    certain[0, 1] = -1e-14
    assert mutual_information(certain, grid) == pytest.approx(math.log(2))


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_mutual_information_is_the_distance_to_the_marginals(seed):
    grid = Grid([0, 0], [2, 3], [5, 4])
    joint = np.random.default_rng(seed).dirichlet(np.ones(20)).reshape(5, 4)
    product = np.outer(joint.sum(axis=1), joint.sum(axis=0))
    divergence = (joint * np.log(joint / product)).sum()
    information = mutual_information(joint / grid.cell_volume, grid)
    assert information == pytest.approx(divergence, abs=1e-12)
    assert mutual_information(product / grid.cell_volume, grid) == pytest.approx(
        0, abs=1e-12
    )


def one_cell(grid, i, j):
    density = np.zeros(grid.shape)
    density[i, j] = 1 / grid.cell_volume
    return density


def test_output_of_one_network_is_normal():
    grid = Grid([-2, -1], [2, 3], [20, 16])
    edges = np.array([-3.0, -0.5, 0.1, 0.2, 4.0])
    for i, j in ((3, 2), (15, 9)):
        u = grid.centers[0][i] * grid.centers[1][j]
        density = output_density(one_cell(grid, i, j), grid, edges, 1.5)
        masses = np.diff(norm.cdf(edges, scale=abs(u) * 1.5))
        np.testing.assert_allclose(density * np.diff(edges), masses, atol=1e-14)


def test_output_of_dead_networks_is_zero():
    grid = Grid([-1.5, 0], [1.5, 1], [3, 2])
    dead = one_cell(grid, 1, 0)  # w1 = 0
    inside = output_density(dead, grid, [-1, -1e-9, 1e-9, 1])
    np.testing.assert_allclose(inside * [1, 2e-9, 1], [0, 1, 0], atol=1e-15)
    halves = output_density(dead, grid, [-1.0, 0.0, 1.0])
    np.testing.assert_allclose(halves, [0.5, 0.5])


def test_output_has_the_second_moment_of_the_product():
    grid, edges = Grid([-6, -6], [6, 6], 120), np.linspace(-60, 60, 4001)
    density = gaussian(grid, [0.7, -0.4], [0.6, 0.5])
    output = output_density(density, grid, edges, 1.3)
    width, centers = edges[1] - edges[0], (edges[1:] + edges[:-1]) / 2
    assert output.sum() * width == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(output, output[::-1], atol=1e-12)
    expected = 1.3**2 * (0.6**2 + 0.7**2) * (0.5**2 + 0.4**2)
    # bins and cells add h^2 / 12 each to second moments: 1e-3 relative
    second = (output * centers**2).sum() * width
    assert second == pytest.approx(expected, rel=5e-3)


# --- what mean field misses ---------------------------------------------------------

DECAY = 0.05


def compare(mean, std, temperature, times, grid):
    """Joint density and its mean fields, A1 linear, as rows of numbers."""
    equation = FokkerPlanck(
        grid, temperature, lambda w: scalar_loss(w, weight_decay=DECAY)
    )
    joint = equation.evolve(gaussian(grid, mean, std), times, dt=0.05)
    rows = []
    products = []
    for variant in ("coupled", "frozen"):
        found = mean_field_moments(
            mean[0], std**2, mean[1], std**2, times, temperature, 1.0, DECAY, variant
        )
        centers = np.stack([found.mean1, found.mean2], axis=1)[:, :, 0, 0]
        spreads = np.stack([found.covariance1, found.covariance2], axis=1)[:, :, 0, 0]
        products.append(
            [
                gaussian(grid, m, np.sqrt(v))
                for m, v in zip(centers, spreads, strict=True)
            ]
        )
    for density, coupled, frozen in zip(joint, *products, strict=True):
        rows.append(
            [
                mutual_information(density, grid),
                total_variation(density, coupled, grid),
                total_variation(density, frozen, grid),
                *(
                    equation.mean(lambda w: w[:, 0] * w[:, 1], p)
                    for p in (density, coupled, frozen)
                ),
            ]
        )
    return rows


@pytest.mark.filterwarnings("ignore::fpbook.fokker_planck.MassAtWallWarning")
def test_mean_field_misses_the_correlation_at_every_temperature():
    # Columns: mutual information; total variation of joint and mean field, coupled and
    # frozen; mean of u in the joint density, coupled and frozen. Independent numbers,
    # rounded to two or three digits.
    grid = Grid([-7, -7], [7, 7], 160)
    warm = compare((0.6, 0.3), 0.25, 0.1, [1.0, 5.0, 20.0], grid)
    expected = [
        [0.182, 0.177, 0.150, 0.546, 0.527, 0.614],
        [0.63, 0.41, 0.40, 0.869, 0.848, 0.950],
        [0.842, 0.50, 0.49, 0.898, 0.850, 0.950],
    ]
    np.testing.assert_allclose(warm, expected, atol=0.01)
    cold = compare((1.0, 1.0), 0.05, 0.00625, [20.0], Grid([0.2, 0.2], [1.9, 1.9], 100))
    np.testing.assert_allclose(
        cold, [[0.79, 0.51, 0.51, 0.947, 0.944, 0.950]], atol=0.01
    )


@pytest.mark.filterwarnings("ignore::fpbook.fokker_planck.MassAtWallWarning")
def test_mean_field_never_leaves_a_symmetric_start():
    grid = Grid([-7, -7], [7, 7], 160)
    (row,) = compare((0.0, 0.0), 0.3, 0.1, [20.0], grid)
    np.testing.assert_allclose(row, [1.246, 0.885, 0.728, 0.899, 0, 0], atol=0.01)


def test_mutual_information_has_a_limit_at_low_temperature():
    # The Hessian at the minimum w1 = w2, w1^2 = 1 - decay, has 1 on the diagonal and
    # 2 (1 - decay) - 1 = .9 off it: -log(1 - .81) / 2 = .830.
    limit = -0.5 * math.log(1 - (1 - 2 * DECAY) ** 2)
    gaps = []
    for temperature in (4e-4, 1e-4):
        half = 40 * math.sqrt(temperature)  # 9 standard deviations of the soft mode
        center = math.sqrt(1 - DECAY)
        grid = Grid([center - half] * 2, [center + half] * 2, 320)
        density = FokkerPlanck(
            grid, temperature, lambda w: scalar_loss(w, weight_decay=DECAY)
        ).stationary_density()
        gaps.append(limit - mutual_information(density, grid))
    assert limit == pytest.approx(0.830, abs=5e-4)
    assert gaps[1] == pytest.approx(0, abs=2e-3)
    assert gaps[0] / gaps[1] == pytest.approx(4, abs=0.3)  # first order in T


# --- arguments ----------------------------------------------------------------------

LINE, PLANE = Grid(-1, 1, 4), Grid([-1, -1], [1, 1], 4)
FLAT1, FLAT2 = np.full(4, 0.5), np.full((4, 4), 0.25)
GOOD = {
    mean_field_moments: {
        "mean1": [[1.0, 2.0]],
        "covariance1": 0.1,
        "mean2": [[1.0], [2.0]],
        "covariance2": 0.1,
        "times": [0.1],
        "temperature": 0.1,
        "data_covariance": np.eye(2),
    },
    mean_field: {
        "density1": gaussian(LINE, 0, 0.1),
        "grid1": LINE,
        "density2": gaussian(LINE, 0, 0.1),
        "grid2": LINE,
        "times": [0.0],
        "temperature": 0.1,
    },
    total_variation: {"p": FLAT1, "q": FLAT1, "grid": LINE},
    mutual_information: {"joint": FLAT2, "grid": PLANE},
    output_density: {"joint": FLAT2, "grid": PLANE, "edges": [0.0, 1.0]},
}

POSITIVE = ("data_scale", "temperature", "coupling_step")
NON_NEGATIVE = ("weight_decay",)
SKEW = [[1.0, 0.5], [0.0, 1.0]]
NEGATIVE = [[1.0, 0.0], [0.0, -1.0]]
COVARIANCES = [np.ones(2), np.ones((2, 3)), SKEW, NEGATIVE, np.full((2, 2), np.nan)]
SIZED = [*COVARIANCES, np.eye(3), -0.1]
TIMES = ([], [-1.0], [1.0, 1.0], [math.nan], [math.inf], [[1.0]])
BAD = {
    **{name: (0.0, -1.0, math.nan, math.inf) for name in POSITIVE},
    **{name: (-1.0, math.nan, math.inf) for name in NON_NEGATIVE},
    "data_covariance": COVARIANCES,
    "covariance1": SIZED,
    "covariance2": SIZED,
    "mean1": ([1.0], [[1.0]], [[math.nan, 1.0]]),
    "mean2": ([1.0], [[1.0, 2.0]], [[math.inf], [1.0]]),
    "times": TIMES,
    "variant": ("joint", True),
    "p": (np.ones(3), np.full(4, math.nan)),
    "q": (np.ones(3), np.full(4, math.inf)),
    "joint": (np.ones(3), np.full((4, 4), math.nan), FLAT2 * 1.1, -FLAT2),
    "density1": (np.ones(3), FLAT1 * 1.1, np.array([-0.1, 0.7, 0.7, 0.7])),
    "density2": (np.ones(3), FLAT1 * 0.9, np.full(4, math.nan)),
    "edges": ([1.0], 1.0, [1.0, 1.0], [0.0, math.inf], [[0.0, 1.0]]),
}


def defaults(function):
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    return [name for name in names if name in BAD]


@pytest.mark.parametrize(
    ("function", "name", "value"),
    [
        pytest.param(function, name, value, id=f"{function.__name__}-{name}-{i}")
        for function in GOOD
        for name in defaults(function)
        for i, value in enumerate(BAD[name])
        # gradient flow is allowed
        if (function, name, value) != (mean_field_moments, "temperature", 0.0)
    ],
)
def test_bad_arguments_are_named(function, name, value):
    with pytest.raises(ValueError, match=rf"^{name} must .*got "):
        function(**{**GOOD[function], name: value})


@pytest.mark.parametrize("function", GOOD)
def test_good_arguments_are_taken(function):
    function(**GOOD[function])


def test_grids_must_fit():
    with pytest.raises(ValueError, match=r"^grid must have 2 dimensions, got 1"):
        mutual_information(FLAT1, LINE)
    with pytest.raises(ValueError, match=r"^grid must have 2 dimensions, got 1"):
        output_density(FLAT1, LINE, [0.0, 1.0])
    solid = Grid([-1] * 3, [1] * 3, 4)
    for grid, covariance in ((solid, 1.0), (LINE, np.eye(2))):
        with pytest.raises(ValueError, match=r"^grid1 must have 1 or 2 axes, .* got"):
            mean_field(FLAT1, grid, FLAT1, LINE, [0.0], 0.1, data_covariance=covariance)
    with pytest.raises(ValueError, match=r"^grid2 must have .* \(1\), got 2"):
        mean_field(FLAT1, LINE, FLAT2, PLANE, [0.0], 0.1)
