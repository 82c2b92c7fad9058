"""Entropy production and the law of the speed against closed forms and other routes.

Independent references: the spiral in closed form; the continuum formula of entropy
production from currents at cell centres; heat and free energy; quadrature of the law of
the speed; and brute force over all pairs of cells and points.
"""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from scipy.integrate import dblquad
from scipy.optimize import brentq

from fpbook import mean_field
from fpbook.fokker_planck import FokkerPlanck, Grid, gaussian
from fpbook.steady_states import (
    entropy_production,
    masses_near,
    speed_density,
    total_variation,
)

# A handful of float64 operations: a few units of 1.1e-16, with a margin of 100.
ROUNDING = 1e-13

seeds = st.integers(0, 2**32 - 1)

K, OMEGA = 1.0, 2.0
"""Pull and rotation of the spiral."""


def spiral(x):
    return np.stack([-K * x[:, 0] - OMEGA * x[:, 1], OMEGA * x[:, 0] - K * x[:, 1]], -1)


def network(x):
    """Two neurons with a limit cycle."""
    return -x + 2 * np.tanh(x) @ np.array([[1.0, 0.8], [-0.8, 1.0]])


def cubic(x):
    return x - x**3


def square(half_width, cells):
    return Grid([-half_width] * 2, [half_width] * 2, cells)


def steady_spiral(cells, diffusion=1.0):
    grid = square(6 * math.sqrt(diffusion), cells)
    equation = FokkerPlanck(grid, diffusion, drift=spiral)
    return equation, equation.stationary_density()


def order(errors):
    """Order in the width of cells from errors at successive halvings."""
    return np.log2(np.divide(errors[:-1], errors[1:]))


def random_density(grid, seed):
    weights = np.random.default_rng(seed).random(grid.shape)
    return weights / (weights.sum() * grid.cell_volume)


def flows(equation, density):
    """Rates and flows between all pairs of cells, from column to row, as matrices."""
    rates = equation.generator.toarray()
    np.fill_diagonal(rates, 0)
    return rates, rates * density.ravel()


# --- entropy production -------------------------------------------------------------


@pytest.mark.parametrize("diffusion", [1.0, 0.1])
def test_entropy_production_of_the_spiral(diffusion):
    """2 omega^2 / k whatever the noise, approached with second order."""
    errors = []
    for cells in (40, 80, 160):
        equation, steady = steady_spiral(cells, diffusion)
        errors.append(entropy_production(equation, steady) - 2 * OMEGA**2 / K)
    assert order(errors) == pytest.approx(2, abs=0.1)
    assert abs(errors[-1]) < 0.01


def test_entropy_production_with_one_diffusion_per_axis():
    """A rotation of axes with different noise: tr D^-1 of the exact Gaussian state."""
    D = np.array([1.0, 0.5])
    A = np.array([[-1.0, -1.5], [0.5, -2.0]])
    # A S + S A^T = -2 D, and J = (A + D S^-1) x p.
    identity = np.eye(2)
    system = np.kron(A, identity) + np.kron(identity, A)
    covariance = np.linalg.solve(system, -2 * np.diag(D).ravel()).reshape(2, 2)
    swirl = A + np.diag(D) @ np.linalg.inv(covariance)
    exact = np.trace(swirl.T @ np.diag(1 / D) @ swirl @ covariance)
    assert exact > 0.1
    errors = []
    for cells in (40, 80, 160):
        equation = FokkerPlanck(square(6, cells), D, drift=lambda x: x @ A.T)
        steady = equation.stationary_density()
        errors.append(entropy_production(equation, steady) - exact)
    assert order(errors) == pytest.approx(2, abs=0.1)
    assert abs(errors[-1]) < 0.01 * exact


def noisier_outside(x):
    return 0.3 * (1 + x**2 / 4)


@pytest.mark.parametrize("diffusion", [0.4, [0.4, 0.7], noisier_outside])
def test_entropy_production_is_the_integral_over_the_current(diffusion):
    """Schnakenberg's sum against J^2 / (D p) at the centres: second order."""
    differences = []
    for cells in (40, 80, 160):
        grid = square(5, cells)
        equation = FokkerPlanck(grid, diffusion, drift=network)
        steady = equation.stationary_density()
        current = equation.current(steady)
        D = (
            np.moveaxis(diffusion(grid.points).reshape(*grid.shape, 2), -1, 0)
            if callable(diffusion)
            else np.broadcast_to(diffusion, 2)[:, None, None]
        )
        integral = (current**2 / D / steady).sum() * grid.cell_volume
        differences.append(entropy_production(equation, steady) / integral - 1)
    assert differences[1:] == pytest.approx([0, 0], abs=0.05)
    assert order(differences) == pytest.approx(2, abs=0.3)


def test_a_gradient_system_produces_no_entropy():
    def uphill(x):
        return (1 + x[:, 0] * x[:, 1]) ** 2 / 2 + (x**4).sum(axis=1) / 4

    equation = FokkerPlanck(square(4, 60), 0.3, potential=uphill)
    steady = equation.stationary_density()
    _, carried = flows(equation, steady)
    assert 0 <= entropy_production(equation, steady) < ROUNDING * carried.sum()


def test_no_steady_entropy_production_on_a_line():
    """A drift on a line between walls is a gradient."""
    equation = FokkerPlanck(Grid(-3, 3, 200), 0.2, drift=lambda x: cubic(x) + 0.3)
    steady = equation.stationary_density()
    _, carried = flows(equation, steady)
    assert 0 <= entropy_production(equation, steady) < ROUNDING * carried.sum()


def test_steady_entropy_production_is_the_heat():
    """In a steady state log p drops out: flows times the log-ratio of the rates."""
    equation = FokkerPlanck(square(4, 30), 0.5, drift=network)
    steady = equation.stationary_density()
    rates, carried = flows(equation, steady)
    there, here = np.nonzero(rates)
    heat = carried[there, here] * np.log(rates[there, here] / rates[here, there])
    found = entropy_production(equation, steady)
    assert found == pytest.approx(heat.sum() * equation.grid.cell_volume, rel=1e-10)


def test_relaxing_entropy_production_is_the_fall_of_the_free_energy():
    """In a gradient system sigma = -dF/dt / T for every density, 1-D and 2-D."""
    temperature, dt = 0.3, 1e-4
    for grid, start in (
        (Grid(-3, 3, 100), (0.4, 0.5)),
        (square(3, 40), ([0.4, -0.3], [0.5, 0.4])),
    ):
        equation = FokkerPlanck(
            grid, temperature, potential=lambda x: (x**4 / 4 - x**2 / 2).sum(axis=1)
        )
        before, now, after = equation.evolve(
            gaussian(grid, *start), [1.0 - dt, 1.0, 1.0 + dt], dt=dt
        )
        fall = equation.free_energy(before) - equation.free_energy(after)
        expected = fall / (2 * dt) / temperature
        assert entropy_production(equation, now) == pytest.approx(expected, rel=1e-5)


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_entropy_production_is_positive_and_the_sum_over_pairs(seed):
    equation = FokkerPlanck(square(2, 6), 0.5, drift=network)
    density = random_density(equation.grid, seed)
    _, carried = flows(equation, density)
    expected = 0.0
    for a in range(36):
        for b in range(a):
            if carried[a, b] > 0:
                ratio = math.log(carried[a, b] / carried[b, a])
                expected += (carried[a, b] - carried[b, a]) * ratio
    found = entropy_production(equation, density)
    assert found > 0
    assert found == pytest.approx(expected * equation.grid.cell_volume, rel=1e-10)


def test_entropy_production_where_the_density_underflows():
    """Cells without mass next to cells of 1e-308 count for nothing."""
    grid = Grid(-40, 40, 400)
    density = gaussian(grid, 0.0, 1.0)
    assert (density == 0).any()
    equation = FokkerPlanck(grid, 0.5, drift=lambda x: -x)
    # J = (x - x / 2) p, and sigma = <(x / 2)^2> / (1 / 2) with <x^2> = 1.
    assert entropy_production(equation, density) == pytest.approx(0.5, rel=0.01)


def test_entropy_production_takes_a_mass_below_zero_for_none():
    """Time steps may leave a little, which a density is allowed to have."""
    grid = Grid(-8, 8, 80)
    equation = FokkerPlanck(grid, 0.5, drift=lambda x: -x)
    density = gaussian(grid, 0.0, 0.9)
    zero, below = density.copy(), density.copy()
    zero[:8], below[:8] = 0.0, -1e-9
    # An empty cell borders on mass, and both are infinite.
    assert entropy_production(equation, below) == entropy_production(equation, zero)


def test_entropy_production_next_to_an_empty_half_is_infinite():
    grid = Grid(-1, 1, 20)
    density = np.where(grid.centers[0] > 0, 1.0, 0.0)
    equation = FokkerPlanck(grid, 0.5, drift=lambda x: -x)
    assert entropy_production(equation, density) == math.inf


def test_entropy_production_with_a_constant_tensor():
    """The isotropic tensor hops along the axes: the number in another form."""
    grid = square(4, 40)
    steady, found = [], []
    for diffusion in (0.5, lambda x: np.broadcast_to(0.5 * np.eye(2), (len(x), 2, 2))):
        equation = FokkerPlanck(grid, diffusion, drift=network)
        steady.append(equation.stationary_density())
        found.append(entropy_production(equation, steady[-1]))
    # The two take the drift at the faces and at the centres: second order in h.
    assert found[1] == pytest.approx(found[0], rel=0.1)


def test_entropy_production_refuses_jumps_without_a_reverse():
    def tilting(x):
        angle = x[:, 0]
        along = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        return 0.1 * np.eye(2) + along[:, :, None] * along[:, None, :]

    equation = FokkerPlanck(square(3, 20), tilting, drift=network)
    with pytest.raises(ValueError, match="needs jumps that can be reversed"):
        entropy_production(equation, equation.stationary_density())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p[1:], "must be finite and have the shape (20, 20)"),
        (lambda p: p * np.nan, "must be finite"),
        (lambda p: 2 * p, "have mass 1"),
        (lambda p: p - 0.1 * (p == p.max()) / p.max(), "got mass"),
    ],
)
def test_entropy_production_refuses_what_is_no_density(change, message):
    equation = FokkerPlanck(square(3, 20), 0.5, drift=network)
    with pytest.raises(ValueError, match=re.escape(message)):
        entropy_production(equation, change(equation.stationary_density()))


# --- the law of the speed -----------------------------------------------------------


def test_distance_of_the_law_of_the_speed_from_the_spiral():
    """At T = D two Gaussians whose variances differ by (k^2 + w^2) / k = 5."""
    exact = 5**-0.25 - 5**-1.25
    for cells in (60, 120, 240, 480, 960):
        grid = square(6, cells)
        true = gaussian(grid, 0, math.sqrt(1 / K))
        distance = total_variation(true, speed_density(grid, spiral, 1), grid)
        # Second order; the line where the two cross meets the cells at random.
        assert abs(distance - exact) < 0.1 * grid.cell_volume
    equation, steady = steady_spiral(240)
    quasi = speed_density(equation.grid, spiral, 1.0)
    distance = total_variation(steady, quasi, equation.grid)
    assert distance == pytest.approx(exact, abs=5e-4)


def test_law_of_the_speed_is_the_density_of_the_spiral_at_one_temperature():
    """T = D (k^2 + w^2) / k: second order, since the scheme's variance is."""
    distances = []
    for cells in (40, 80, 160):
        equation, steady = steady_spiral(cells, 0.1)
        quasi = speed_density(equation.grid, spiral, 0.1 * (K**2 + OMEGA**2) / K)
        distances.append(total_variation(steady, quasi, equation.grid))
    assert order(distances) == pytest.approx(2, abs=0.1)
    assert distances[-1] < 1e-3


def test_law_of_the_speed_is_stationary_for_its_own_force():
    """The potential in the solver is 1/2 |F|^2 on the same cells: to rounding."""
    grid = square(4, 40)
    equation = FokkerPlanck(
        grid, 0.3, potential=lambda x: (network(x) ** 2).sum(axis=1) / 2
    )
    found = speed_density(grid, network, 0.3)
    assert found == pytest.approx(equation.stationary_density(), rel=1e-10)


def test_law_of_the_speed_against_quadrature():
    grid = square(5, 200)
    found = speed_density(grid, network, 0.2)

    def weight(y, x):
        return math.exp(-float((network(np.array([[x, y]])) ** 2).sum()) / 2 / 0.2)

    def weighted(y, x):
        return (x * y) ** 2 * weight(y, x)

    whole = dblquad(weight, -5, 5, -5, 5, epsabs=1e-8)[0]
    part = dblquad(weighted, -5, 5, -5, 5, epsabs=1e-8)[0]
    squares = (grid.points**2).prod(axis=1).reshape(grid.shape)
    mean = (squares * found).sum() * grid.cell_volume
    # The sum over the cells of a smooth function is exact but for the walls.
    assert mean == pytest.approx(part / whole, rel=1e-5)


def test_masses_at_low_temperature_are_inverse_determinants():
    """The next term of Laplace's expansion is of first order in T."""

    def neuron(x):
        return -x + 2 * np.tanh(x)

    zero = brentq(neuron, 1, 3)
    points = np.array([[-zero], [0.0], [zero]])
    weights = 1 / np.abs(-1 + 2 / np.cosh(points[:, 0]) ** 2)
    exact = weights / weights.sum()
    deviations = []
    for temperature in (0.008, 0.004, 0.002):
        density = speed_density(Grid(-4, 4, 1600), neuron, temperature)
        masses = masses_near(density, Grid(-4, 4, 1600), points)
        assert masses[0] == pytest.approx(masses[2], rel=ROUNDING)
        deviations.append(abs(masses[1] - exact[1]))
    assert order(deviations) == pytest.approx(1, abs=0.1)
    assert 0 < deviations[-1] < 0.01


@pytest.mark.parametrize("temperature", [0.03, 0.01, 0.005])
def test_half_of_the_mass_sits_on_the_unstable_point_of_a_cubic(temperature):
    """1 / F' sums to zero over the three roots of x - x^3 = b.

    So the middle, |x| < 1/2, has half of the mass up to fields |b| > F(1/2) = 3/8,
    whose Gaussian tail counts a few times, as 1 / |F'| is large where roots meet.
    """
    grid = Grid(-2, 2, 1600)
    density = speed_density(grid, cubic, temperature)
    middle = masses_near(density, grid, [[-1.0], [0.0], [1.0]])[1]
    tail = special.ndtr(-0.375 / math.sqrt(temperature))
    assert abs(middle - 0.5) < 8 * tail + 1e-9


def test_law_of_the_speed_does_not_underflow():
    """Far from every zero exp(-E / T) is below the smallest number, but has a shape."""
    grid = Grid(50, 51, 100)
    density = speed_density(grid, lambda x: -x, 0.01)
    assert density.sum() * grid.cell_volume == pytest.approx(1, rel=ROUNDING)
    x = grid.centers[0][:2]
    ratio = math.exp((x[0] ** 2 - x[1] ** 2) / 0.02)
    assert density[1] / density[0] == pytest.approx(ratio, rel=1e-9)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_law_of_the_speed_refuses_a_temperature(temperature):
    with pytest.raises(ValueError, match="temperature must be finite and > 0"):
        speed_density(square(3, 20), network, temperature)


def test_law_of_the_speed_refuses_a_drift_of_the_wrong_shape():
    with pytest.raises(ValueError, match="drift must return shape"):
        speed_density(square(3, 20), lambda x: x[:, 0], 0.1)


# --- masses near points -------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(1, 5), st.sampled_from([(7,), (5, 8), (3, 4, 5)]))
def test_masses_near_points_are_those_of_the_nearest_centres(seed, m, shape):
    rng = np.random.default_rng(seed)
    grid = Grid([-1] * len(shape), [1, 2, 3][: len(shape)], shape)
    density = random_density(grid, seed)
    points = rng.uniform(-2, 2, (m, len(shape)))
    expected = np.zeros(m)
    for center, value in zip(grid.points, density.ravel(), strict=True):
        nearest = np.linalg.norm(points - center, axis=1).argmin()
        expected[nearest] += value * grid.cell_volume
    found = masses_near(density, grid, points)
    assert found == pytest.approx(expected, abs=ROUNDING)
    assert found.sum() == pytest.approx(1, rel=ROUNDING)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([0.0, 1.0], "points must have shape (m, 2), got (2,)"),
        ([[0.0, 1.0, 2.0]], "points must have shape (m, 2), got (1, 3)"),
        (np.zeros((0, 2)), "points must have shape (m, 2), got (0, 2)"),
        ([[0.0, np.inf]], "points must be finite"),
    ],
)
def test_masses_near_refuses_points(points, message):
    grid = square(1, 4)
    with pytest.raises(ValueError, match=re.escape(message)):
        masses_near(np.ones(grid.shape), grid, points)


def test_masses_near_refuses_a_density_off_the_grid():
    with pytest.raises(ValueError, match="density must be finite and have the shape"):
        masses_near(np.ones(5), square(1, 4), [[0.0, 0.0]])


# --- total variation ----------------------------------------------------------------


def test_there_is_one_total_variation():
    assert total_variation is mean_field.total_variation


@settings(max_examples=50, deadline=None)
@given(seeds, seeds, seeds)
def test_total_variation_is_a_distance(a, b, c):
    grid = square(2, 5)
    p, q, r = (random_density(grid, seed) for seed in (a, b, c))
    distance = total_variation(p, q, grid)
    assert 0 <= distance <= 1
    assert distance == total_variation(q, p, grid)
    through = total_variation(p, r, grid) + total_variation(r, q, grid)
    assert distance <= through + ROUNDING
    assert (distance == 0) == (a == b)
    # The largest difference of the probabilities of an event: where p > q.
    largest = (p - q)[p > q].sum() * grid.cell_volume
    assert distance == pytest.approx(largest, abs=ROUNDING)
