"""The Fokker-Planck solver against closed forms, conservation laws and other methods.

Independent references: cell averages of Gaussian and noncentral chi-square laws, dense
exponentials of the generator, ordinary equations of exact moments, quadrature of first
passage times and a shooting method for the slowest rate. Errors of densities are in L1.
"""

import math
import re
import warnings
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse, stats
from scipy.integrate import quad, solve_ivp
from scipy.linalg import expm, solve_continuous_lyapunov
from scipy.optimize import brentq
from scipy.sparse.linalg import expm_multiply

import fpbook.fokker_planck as module
from fpbook import progress
from fpbook.finite_volumes import axis_jumps
from fpbook.fokker_planck import (
    FokkerPlanck,
    Grid,
    MassAtWallWarning,
    NegativeDensityWarning,
    gaussian,
)
from fpbook.time_stepping import TIME_ERROR, lu_step

# A handful of float64 operations: a few units of 1.1e-16, with a margin of 100.
ROUNDING = 1e-13

seeds = st.integers(0, 2**32 - 1)


def distance(grid, one, other):
    return np.abs(one - other).sum() * grid.cell_volume


def fitted_order(cells, errors):
    return -np.polyfit(np.log(cells), np.log(errors), 1)[0]


def quadratic(hessian):
    return lambda w: np.einsum("ni,ij,nj->n", w, hessian, w) / 2


def linear(matrix):
    return lambda w: -w @ np.transpose(matrix)


def constantly(tensor):
    return lambda w: np.broadcast_to(tensor, (len(w), *np.shape(tensor)))


def double_well(w):
    return (w[:, 0] ** 2 - 1) ** 2 / 4


def normalised(grid, density):
    return density / (density.sum() * grid.cell_volume)


def normal_averages(grid, mean, covariance):
    """Cell averages of a correlated Gaussian in 2-D, by 4 x 4 Gauss points per cell.

    Its error is (h / width)^8 / 1e7, far below that of the scheme.
    """
    nodes, weights = np.polynomial.legendre.leggauss(4)
    x, y = (
        (center[:, None] + h / 2 * nodes).ravel() - m
        for center, h, m in zip(grid.centers, grid.spacing, mean, strict=True)
    )
    inverse = np.linalg.inv(covariance)
    form = (
        inverse[0, 0] * x[:, None] ** 2
        + 2 * inverse[0, 1] * x[:, None] * y
        + inverse[1, 1] * y**2
    )
    values = np.exp(-form / 2) / (2 * np.pi * np.sqrt(np.linalg.det(covariance)))
    blocks = values.reshape(grid.shape[0], 4, grid.shape[1], 4)
    return np.einsum("iajb,a,b->ij", blocks, weights / 2, weights / 2)


def ornstein_uhlenbeck(cells=150):
    """The standard problem: (equation, start), relaxing from N(1.5, 0.09)."""
    grid = Grid(-6, 6, cells)
    equation = FokkerPlanck(grid, 0.5, potential=quadratic(np.eye(1)))
    return equation, gaussian(grid, 1.5, 0.3)


# --- order in space -----------------------------------------------------------------


def test_second_order_in_space_one_weight():
    cells, errors, time = [50, 100, 200, 400], [], 0.7
    for n in cells:
        equation, start = ornstein_uhlenbeck(n)
        end = equation.evolve(start, time, dt=time / 400)[0]
        mean, variance = 1.5 * np.exp(-time), 0.5 + (0.09 - 0.5) * np.exp(-2 * time)
        exact = gaussian(equation.grid, mean, np.sqrt(variance))
        errors.append(distance(equation.grid, end, exact))
    # The error in time is 1e-6, that in space 2.5e-4 at least.
    orders = [np.log2(a / b) for a, b in pairwise(errors)]
    assert all(1.95 <= order <= 2.05 for order in orders)
    assert errors[-1] < 3e-4


def test_second_order_in_space_two_coupled_weights():
    hessian, T, time = np.array([[1.5, 0.5], [0.5, 1.0]]), 0.3, 0.5
    mean, cells, errors = np.array([0.4, -0.25]), [60, 80, 120], []
    decay, equilibrium = expm(-hessian * time), T * np.linalg.inv(hessian)
    covariance = equilibrium + decay @ (0.25 * np.eye(2) - equilibrium) @ decay
    for n in cells:
        grid = Grid([-3.6, -3.6], [3.6, 3.6], n)
        equation = FokkerPlanck(grid, T, potential=quadratic(hessian))
        end = equation.evolve(gaussian(grid, mean, 0.5), [time], dt=time / 120)[0]
        exact = normal_averages(grid, decay @ mean, covariance)
        errors.append(distance(grid, end, exact))
    assert 1.95 <= fitted_order(cells, errors) <= 2.05


def square_root_process(grid, time):
    """Cell averages of dw = (1 - w) dt + sqrt(0.3 w) dB from w = 1.4, exact."""
    scale = 4 / (0.3 * (1 - np.exp(-time)))
    law = stats.ncx2(4 / 0.3, scale * 1.4 * np.exp(-time))
    return np.diff(law.cdf(scale * grid.edges[0])) / grid.spacing[0]


def test_second_order_in_space_state_dependent_diffusion():
    # D = 0.15 w; the law is chi-square in the Ito sense only.
    cells, errors = [50, 100, 200], []
    for n in cells:
        grid = Grid(0, 5, n)
        equation = FokkerPlanck(grid, lambda w: 0.15 * w, drift=lambda w: 1 - w)
        end = equation.evolve(square_root_process(grid, 0.3), 0.5, dt=0.5 / 600)[0]
        errors.append(distance(grid, end, square_root_process(grid, 0.8)))
    assert 1.95 <= fitted_order(cells, errors) <= 2.05


def test_correlated_noise_spreads_by_its_tensor():
    # Without drift the Gaussian grows by 2 D t; the scheme has no error in its second
    # moments, which is how D is defined, but for the cells' own h^2 / 12 at the start.
    tensor, time = np.array([[0.30, -0.17], [-0.17, 0.15]]), 0.5
    errors, cells = [], [40, 60, 90]
    for n in cells:
        grid = Grid([-5, -4], [5, 4], n)
        equation = FokkerPlanck(grid, constantly(tensor), drift=constantly([0.0, 0.0]))
        end = equation.evolve(gaussian(grid, [0.2, 0.1], 0.5), [time], dt=time / 150)[0]
        covariance = 0.25 * np.eye(2) + 2 * tensor * time
        errors.append(
            distance(grid, end, normal_averages(grid, [0.2, 0.1], covariance))
        )
        mean = [equation.mean(lambda w, i=i: w[:, i], end) for i in range(2)]
        np.testing.assert_allclose(mean, [0.2, 0.1], atol=1e-9)  # 1e-11 is outside
        for i, j in ((0, 0), (0, 1), (1, 1)):
            second = equation.mean(
                lambda w, i=i, j=j, m=mean: (w[:, i] - m[i]) * (w[:, j] - m[j]), end
            )
            own = grid.spacing[i] ** 2 / 12 if i == j else 0
            # The tails beyond the walls, 1e-9, times 25.
            assert second == pytest.approx(covariance[i, j] + own, abs=1e-7)
    assert 1.95 <= fitted_order(cells, errors) <= 2.05


@pytest.mark.parametrize("axis", [0, 1])
def test_pure_transport_is_of_first_order(axis):
    # Noise along the other axis only; along this one the weight decays.
    errors, cells = [], [240, 480, 960]
    diffusion = [0.4, 0.4]
    diffusion[axis] = 0.0
    for n in cells:
        shape, box = [6, 6], [1.0, 1.0]
        shape[axis], box[axis] = n, 4.0
        grid = Grid([-side for side in box], box, shape)
        equation = FokkerPlanck(grid, diffusion, potential=quadratic(np.eye(2)))
        start = normalised(
            grid, gaussian(grid, [1.5, 0] if axis == 0 else [0, 1.5], 0.4)
        )
        with pytest.warns(MassAtWallWarning, match=rf"w\[{1 - axis}\]"):
            end = equation.evolve(start, [0.7], dt=0.01)[0]
        along = end.sum(axis=1 - axis) * grid.spacing[1 - axis]
        line = Grid(-4, 4, n)
        exact = gaussian(line, 1.5 * np.exp(-0.7), 0.4 * np.exp(-0.7))
        errors.append(distance(line, along, exact))
    # Numerical diffusion |a| h / 2 widens a peak of 0.2 by up to a tenth here.
    assert fitted_order(cells, errors) == pytest.approx(1, abs=0.15)


# --- order in time ------------------------------------------------------------------


def generator_of(equation):
    """Generator for any d, from the rates through the faces."""
    cells = math.prod(equation.grid.shape)
    jumps = axis_jumps(equation.grid, equation._faces)
    rates = sparse.coo_array(
        (jumps.rate, (jumps.target, jumps.source)), shape=(cells, cells)
    ).tocsc()
    return rates - sparse.diags_array(rates.sum(axis=0))


def coupled_in_three():
    """Three coupled weights on few cells: (equation, start)."""
    grid = Grid([-2.5] * 3, [2.5] * 3, [12, 11, 13])
    equation = FokkerPlanck(
        grid,
        0.25,
        potential=lambda w: (
            (1 - w[:, 0] * w[:, 1] - 0.5 * w[:, 2]) ** 2 / 2 + 0.3 * (w**2).sum(axis=1)
        ),
    )
    return equation, normalised(grid, gaussian(grid, [0.5, 0.3, -0.2], 0.6))


@pytest.mark.filterwarnings("ignore::fpbook.fokker_planck.MassAtWallWarning")
@pytest.mark.parametrize("start", ["smooth", "one cell"])
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_second_order_in_time(dimensions, start):
    if dimensions == 1:
        equation = FokkerPlanck(Grid(-3.5, 3.5, 150), 0.5, potential=double_well)
        density = normalised(equation.grid, gaussian(equation.grid, 0.5, 0.4))
    elif dimensions == 2:
        grid = Grid([-2.5, -2.5], [2.5, 2.5], [20, 24])
        equation = FokkerPlanck(grid, 0.2, drift=linear([[1, 2], [-1, 1]]))
        density = normalised(grid, gaussian(grid, [0.5, 0], 0.4))
    else:
        equation, density = coupled_in_three()
    grid = equation.grid
    if start == "one cell":
        density = np.zeros(grid.shape)
        density[tuple(n // 2 for n in grid.shape)] = 1 / grid.cell_volume
    exact = expm_multiply(generator_of(equation) * 0.8, density.ravel())
    steps = [40, 80, 160]
    errors = []
    for count in steps:
        path = equation.evolve(density, np.linspace(0, 0.8, 11)[1:], dt=0.8 / count)
        errors.append(distance(grid, path[-1], exact.reshape(grid.shape)))
        # Smoothed at the start, no cell ever goes below zero but for rounding.
        assert path.min() >= -1e-14 * path.max()
        mass = path.reshape(10, -1).sum(axis=1) * grid.cell_volume
        np.testing.assert_allclose(
            mass, density.sum() * grid.cell_volume, rtol=0, atol=1e-13
        )
    assert 1.9 <= fitted_order(steps, errors) <= 2.1


@pytest.mark.parametrize("rate", [30, 1000])
def test_one_cell_stays_positive_only_by_smoothing(rate):
    # ``rate`` is dt times the fastest rate; Crank-Nicolson alone is positive up to 2.
    equation, _ = ornstein_uhlenbeck()
    start = np.zeros(150)
    start[90] = 1 / equation.grid.cell_volume
    generator = equation.generator
    dt = rate / np.abs(generator.diagonal()).max()
    path = equation.evolve(start, dt * np.arange(1, 6), dt)
    assert path.min() >= -1e-14 * path.max()
    assert lu_step(generator, dt)(start, False).min() < -0.1 * path.max()


# --- conservation and positivity ----------------------------------------------------


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
def test_mass_and_positivity(dimensions):
    cells = (120, 50, 18, 10)[dimensions - 1]
    grid = Grid([-3.0] * dimensions, [3.0] * dimensions, cells)
    equation = FokkerPlanck(
        grid, 0.15, potential=lambda w: 0.5 * (1 - (w**2).sum(axis=1)) ** 2
    )
    start = normalised(grid, gaussian(grid, 0.4, 0.4))
    # At w = 3 the drift is 48: steps of 0.02 would ring there, at 1e-10 of the peak.
    path = equation.evolve(start, [0.04, 0.08, 0.12], dt=0.002)
    mass = path.reshape(3, -1).sum(axis=1) * grid.cell_volume
    np.testing.assert_allclose(mass, 1, rtol=0, atol=1e-13)
    assert path.min() >= -1e-14 * path.max()


def random_field(rng, outer, inner=()):
    """A smooth random function (n, d) -> (n, *inner), of size about 1."""
    d = outer
    waves = rng.normal(size=(4, d))
    phases = rng.uniform(0, 2 * np.pi, 4)
    amplitudes = rng.normal(size=(4, *inner)) / 2
    return lambda w: np.tensordot(np.cos(w @ waves.T + phases), amplitudes, axes=1)


def random_tensor(rng):
    one, other, turn = (random_field(rng, 2) for _ in range(3))

    def tensor(w):
        c, s = np.cos(turn(w)), np.sin(turn(w))
        turned = np.stack([np.stack([c, -s], -1), np.stack([s, c], -1)], -2)
        sizes = np.stack([1.2 + np.tanh(one(w)), 1.2 + np.tanh(other(w))], -1)
        return np.einsum("nik,nk,njk->nij", turned, sizes, turned)

    return tensor


@settings(max_examples=60, deadline=None)
@given(
    seed=seeds,
    dimensions=st.sampled_from([1, 2]),
    noise=st.sampled_from(["number", "axes", "diagonal", "tensor"]),
    force=st.sampled_from(["potential", "drift"]),
    peclet=st.floats(0, 4).map(lambda power: 10**power),
)
def test_the_generator_is_a_markov_chain(seed, dimensions, noise, force, peclet):
    rng = np.random.default_rng(seed)
    d, shape = dimensions, [(17,), (7, 6)][dimensions - 1]
    grid = Grid([-1] * d, [1] * d, shape)
    field = random_field(rng, d, (d,) if force == "drift" else ())
    positive = random_field(rng, d, (d,))
    if noise == "tensor" and d == 2:
        diffusion = random_tensor(rng)
    elif noise in ("diagonal", "tensor"):
        diffusion = lambda w: 1.2 + np.tanh(positive(w))  # noqa: E731
    else:
        diffusion = 1.0 if noise == "number" else rng.uniform(0.1, 1, d)
    strength = peclet / grid.spacing[0]
    equation = FokkerPlanck(grid, diffusion, **{force: lambda w: strength * field(w)})
    A = equation.generator.toarray()
    fastest = np.abs(np.diag(A)).max()
    assert fastest > 0
    assert (A - np.diag(np.diag(A))).min() >= 0
    # a sum of up to seven numbers
    assert np.abs(A.sum(axis=0)).max() <= 1e-15 * 7 * fastest
    # What the flux form does is what the matrix does.
    p = rng.uniform(size=grid.shape)
    np.testing.assert_allclose(
        equation._velocity(p).ravel(), A @ p.ravel(), rtol=0, atol=1e-14 * fastest
    )


# --- stationary densities -----------------------------------------------------------


def tabulated(levels):
    """A potential that has these values at the centres, where alone it is needed."""
    place = iter([levels])
    return lambda w: next(place).ravel()


@settings(max_examples=60, deadline=None)
@given(
    seed=seeds,
    dimensions=st.sampled_from([1, 2]),
    steepness=st.floats(-1, 5).map(lambda power: 10**power),
)
def test_boltzmann_is_stationary_for_any_potential(seed, dimensions, steepness):
    rng = np.random.default_rng(seed)
    levels = rng.normal(size=(40,) if dimensions == 1 else (8, 7))
    levels = (levels - levels.min()) * steepness
    grid = Grid([0] * dimensions, [1] * dimensions, levels.shape)
    equation = FokkerPlanck(grid, 0.7, potential=tabulated(levels))
    p = equation.stationary_density()
    boltzmann = normalised(grid, np.exp(-levels / 0.7))
    np.testing.assert_allclose(p, boltzmann, rtol=1e-12, atol=1e-300)
    # e^(-L / T) carries the rounding of its exponent, a relative error of L / T units.
    A, p, x = equation.generator.toarray(), p.ravel(), levels.ravel() / 0.7
    flow = A * p
    units = 1e-15 * (1 + np.maximum.outer(x, x))
    np.fill_diagonal(flow, 0)
    assert np.all(np.abs(flow - flow.T) <= units * flow + 1e-300)  # detailed balance


@settings(max_examples=60, deadline=None)
@given(
    seed=seeds,
    dimensions=st.sampled_from([1, 2]),
    peclet=st.floats(-1, 4).map(lambda power: 10**power),
)
def test_boltzmann_is_stationary_at_any_peclet_number(seed, dimensions, peclet):
    # Two neighbours at the bottom, as in any smooth well: from a lone lowest cell
    # there would be no flow that the rounding of the others is small to.
    grid = Grid([-1] * dimensions, [1] * dimensions, 40 if dimensions == 1 else 9)
    field = random_field(np.random.default_rng(seed), dimensions)
    lines = peclet / grid.spacing[0] * field(grid.points).reshape(-1, grid.shape[-1])
    line, cell = np.unravel_index(lines[:, :-1].argmin(), lines[:, :-1].shape)
    lines[line, cell : cell + 2] = lines.min()
    levels = (lines - lines.min()).reshape(grid.shape)
    equation = FokkerPlanck(grid, 1.0, potential=tabulated(levels))
    p = equation.stationary_density().ravel()
    A = equation.generator
    assert np.abs(A @ p).max() <= 1e-15 * np.abs(A.diagonal() * p).max()


@pytest.mark.parametrize("dimensions", [3, 4])
@pytest.mark.parametrize("dt", [0.01, 1.0, 100.0])
def test_boltzmann_is_invariant_under_strang_steps(dimensions, dt):
    rng = np.random.default_rng(3)
    shape = (9, 8, 7, 5)[:dimensions]
    levels = 3 * rng.normal(size=shape)
    grid = Grid([0] * dimensions, [1] * dimensions, shape)
    equation = FokkerPlanck(grid, 0.5, potential=tabulated(levels))
    p = equation.stationary_density()
    step = equation._make_step(dt)
    for smooth in (False, True):
        assert np.abs(step(p, smooth) - p).max() <= 1e-14 * p.max()


def student(grid):
    exact = (0.05 + 0.2 * grid.centers[0] ** 2) ** -3.5
    return normalised(grid, exact)


@pytest.mark.parametrize(
    "force",
    [{"potential": lambda w: w[:, 0] ** 2 / 2}, {"drift": lambda w: -w}],
    ids=["potential", "drift"],
)
def test_noise_that_grows_makes_a_student_law(force):
    # D = A + B w^2 with drift -k w (Ito): p ~ D^(-1 - k / 2B), here power -3.5.
    cells, errors = [200, 400, 800, 1600], []
    for n in cells:
        grid = Grid(-8, 8, n)
        equation = FokkerPlanck(grid, lambda w: 0.05 + 0.2 * w**2, **force)
        errors.append(distance(grid, equation.stationary_density(), student(grid)))
    assert errors[-1] < 1e-8
    assert fitted_order(cells, errors) == pytest.approx(4, abs=0.1)  # Simpson's rule


@pytest.mark.parametrize("alpha", [0.1, 0.5])
@pytest.mark.parametrize("coordinate", ["u", "log u"])
def test_label_noise_makes_a_gamma_law(alpha, coordinate):
    # du = [2 u (1 - u) + alpha u] dt + 2 u sqrt(alpha) dB, shape 1 / alpha - 1 / 2.
    if coordinate == "u":
        grid = Grid(0, 8, 800)
        equation = FokkerPlanck(
            grid,
            lambda u: 2 * alpha * u**2,
            drift=lambda u: 2 * u * (1 - u) + alpha * u,
        )
        product = grid.centers[0]
    else:
        grid = Grid(-12, 3, 400)
        equation = FokkerPlanck(
            grid, 2 * alpha, drift=lambda y: 2 * (1 - np.exp(y)) - alpha
        )
        product = np.exp(grid.centers[0])
    p = equation.stationary_density()
    law = stats.gamma(1 / alpha - 0.5, scale=alpha)
    assert equation.mean(product, p) == pytest.approx(1 - alpha / 2, abs=1e-3)
    variance = equation.mean((product - 1 + alpha / 2) ** 2, p)
    assert variance == pytest.approx(law.var(), rel=3e-3)  # the singular end, u = 0


def test_a_stationary_density_from_two_drifts_by_inverse_iteration():
    # Two independent axes with their own D: the product of two one-dimensional laws.
    grid = Grid([-3, -2.5], [3, 2.5], [40, 36])
    diffusion = [0.3, 0.5]
    potential = [double_well, lambda w: w[:, 0] ** 4 / 4]
    equation = FokkerPlanck(
        grid,
        diffusion,
        potential=lambda w: potential[0](w[:, :1]) + potential[1](w[:, 1:]),
    )
    lines = [
        FokkerPlanck(
            Grid(edges[0], edges[-1], len(edges) - 1), D, potential=L
        ).stationary_density()
        for edges, D, L in zip(grid.edges, diffusion, potential, strict=True)
    ]
    p = equation.stationary_density()
    assert p.min() > 0
    # The iteration stops at 1e-12; elimination loses a few digits on top.
    assert distance(grid, p, np.outer(*lines)) < 1e-11


def test_wells_that_do_not_exchange_mass_have_no_answer():
    # The barrier is 1e6 times the noise: any share of the wells is stationary to
    # rounding. The axes' noise differs, or exp(-L / T) would be the answer.
    grid = Grid([-1.8, -1.8], [1.8, 1.8], [40, 20])
    tilted = lambda w: 4 * double_well(w) + 0.3 * w[:, 0] + w[:, 1] ** 2  # noqa: E731
    for T in (0.02, 1e-6):
        equation = FokkerPlanck(grid, [T, 2 * T], potential=tilted)
        with pytest.raises(
            FloatingPointError,
            match=r"stationary_density is not found to 1e-12, .* two starts differ by",
        ):
            equation.stationary_density()


def test_stationary_density_of_three_weights_needs_one_temperature():
    grid = Grid([-1] * 3, [1] * 3, 4)
    message = (
        "stationary_density without a potential and one temperature is for d <= 2, "
        "the grid has d = 3; evolve for a long time instead"
    )
    for equation in (
        FokkerPlanck(grid, [1.0, 1.0, 2.0], potential=quadratic(np.eye(3))),
        FokkerPlanck(grid, 1.0, drift=lambda w: -w),
        FokkerPlanck(grid, lambda w: 1 + w**2, potential=quadratic(np.eye(3))),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            equation.stationary_density()


# --- currents -----------------------------------------------------------------------

HESSIAN, NOISE = np.diag([1.0, 3.0]), np.array([[0.5, 0.2], [0.2, 0.3]])
COUPLED, AXES = np.array([[1.5, 0.8], [0.8, 1.0]]), np.diag([0.3, 0.6])


@pytest.mark.parametrize(
    ("hessian", "noise", "diffusion", "box"),
    [
        (HESSIAN, NOISE, constantly(NOISE), (4.5, 2.2)),
        (COUPLED, AXES, np.diag(AXES), (4.5, 6.0)),
    ],
    ids=["tensor", "axes"],
)
@pytest.mark.parametrize("force", ["potential", "drift"])
def test_probability_circulates_where_noise_and_hessian_do_not_commute(
    hessian, noise, diffusion, box, force
):
    covariance = solve_continuous_lyapunov(hessian, 2 * noise)
    turning = hessian @ covariance - noise
    assert turning[0, 1] == pytest.approx(-turning[1, 0])
    assert abs(turning[0, 1]) > 0.05
    cells, laws, currents, moments = [40, 60, 90], [], [], []
    function = quadratic(hessian) if force == "potential" else linear(hessian)
    for n in cells:
        grid = Grid([-b for b in box], box, n)
        equation = FokkerPlanck(grid, diffusion, **{force: function})
        p = equation.stationary_density()
        laws.append(distance(grid, p, normal_averages(grid, [0, 0], covariance)))
        w = grid.points
        density = stats.multivariate_normal([0, 0], covariance).pdf(w)
        J = -(w @ (turning @ np.linalg.inv(covariance)).T) * density[:, None]
        J = np.moveaxis(J.reshape(*grid.shape, 2), -1, 0)
        found = equation.current(p)
        currents.append(np.abs(found - J).sum() / np.abs(J).sum())
        moments.append(
            [
                equation.mean(lambda w, i=i, j=j: w[:, i] * w[:, j], p)
                - covariance[i, j]
                for i, j in ((0, 0), (0, 1), (1, 1))
            ]
        )
        # No mass piles up.
        residual = equation.generator @ p.ravel()
        rate = np.abs(equation.generator.diagonal() * p.ravel()).max()
        assert np.abs(residual).max() < 1e-14 * rate
    assert 1.95 <= fitted_order(cells, laws) <= 2.05
    assert 1.9 <= fitted_order(cells, currents) <= 2.1
    assert currents[-1] < 0.011
    first, _, last = np.abs(moments)
    assert np.all(first > 4.3 * last)  # each moment; (90 / 40)^2 = 5.06


def test_noise_that_commutes_with_the_hessian_makes_no_current():
    angle = 0.5
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    hessian = turn @ np.diag([1.0, 2.0]) @ turn.T
    tensor = turn @ np.diag([0.3, 0.5]) @ turn.T
    sizes = []
    for n in (40, 80):
        grid = Grid([-4, -4], [4, 4], n)
        equation = FokkerPlanck(grid, constantly(tensor), potential=quadratic(hessian))
        J = equation.current(equation.stationary_density())
        sizes.append(np.abs(J).sum() * grid.cell_volume)
    # The scheme's own current vanishes as h^2; |J| is about 0.05 in the test above.
    assert sizes[1] < 3e-3
    assert np.log2(sizes[0] / sizes[1]) == pytest.approx(2, abs=0.15)


def test_equilibrium_has_no_current():
    grid = Grid([-3, -3], [3, 3], 30)
    for equation in (
        FokkerPlanck(grid, 0.3, potential=quadratic(COUPLED)),
        FokkerPlanck(Grid(-2, 2, 50), 0.3, potential=double_well),
    ):
        p = equation.stationary_density()
        largest = np.abs(equation.generator.diagonal()).max() * p.max()
        # Rates cancel to rounding; a flux is h times them.
        assert np.abs(equation.current(p)).max() < 1e-15 * largest


def test_the_current_of_a_drifting_gaussian():
    # J = a p - dp/dw D, at the centres, to second order.
    errors, cells = [], [50, 100, 200]
    for n in cells:
        equation, start = ornstein_uhlenbeck(n)
        x = equation.grid.centers[0]
        p = stats.norm(1.5, 0.3).pdf(x)
        exact = -x * p + 0.5 * (x - 1.5) / 0.09 * p
        errors.append(np.abs(equation.current(start)[0] - exact).sum() * 12 / n)
    assert fitted_order(cells, errors) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("diffusion", [[0.3, 0.2], constantly(NOISE)])
def test_the_current_moves_the_mean(diffusion):
    # d<w>/dt is the sum of J over the cells, exactly: each flux counts its two halves.
    grid = Grid([-3, -4], [3, 4], [20, 31])
    equation = FokkerPlanck(grid, diffusion, drift=linear([[1, 2], [-1, 1]]))
    p = np.random.default_rng(0).uniform(size=grid.shape)
    velocity = (equation.generator @ p.ravel()).reshape(grid.shape)
    total = equation.current(p).sum(axis=(1, 2)) * grid.cell_volume
    moved = [
        equation.mean(lambda w: w[:, 0], velocity),
        equation.mean(lambda w: w[:, 1], velocity),
    ]
    np.testing.assert_allclose(total, moved, rtol=1e-10)


# --- rates --------------------------------------------------------------------------


def test_rates_of_one_quadratic_weight_are_multiples():
    # Error of the n-th rate: second order, Richardson from two grids leaves the fourth.
    coarse, fine = (
        FokkerPlanck(Grid(-7, 7, n), 0.5, potential=quadratic([[0.7]]))
        for n in (100, 200)
    )
    rates, finer = coarse.relaxation_rates(5), fine.relaxation_rates(5)
    assert rates.dtype == float
    np.testing.assert_allclose(
        (4 * finer - rates) / 3, 0.7 * np.arange(1, 6), rtol=1e-3
    )
    # Another method for the same matrix.
    dense = np.sort(-np.linalg.eigvals(coarse.generator.toarray()).real)
    np.testing.assert_allclose(rates, dense[1:6], rtol=1e-9)


@pytest.mark.parametrize("force", ["potential", "drift"])
def test_rates_of_two_weights_are_sums_of_eigenvalues(force):
    # With one temperature the matrix is symmetric but for a factor; from the drift
    # the solver does not know and must find the same.
    a, b = np.linalg.eigvalsh(COUPLED)
    expected = np.sort([i * a + j * b for i in range(6) for j in range(6)])[1:7]
    found = []
    for n in (50, 100):
        grid = Grid([-4.5, -4.5], [4.5, 4.5], n)
        function = quadratic(COUPLED) if force == "potential" else linear(COUPLED)
        equation = FokkerPlanck(grid, 0.35, **{force: function})
        found.append(equation.relaxation_rates(6))
        assert found[-1].dtype == float
    # The two rates near 2.07 cross: two grids leave an error of fourth order.
    np.testing.assert_allclose((4 * found[1] - found[0]) / 3, expected, rtol=5e-3)


@pytest.mark.parametrize("turn", [0.5, 2.0, 6.0])
@pytest.mark.parametrize("diffusion", [0.4, constantly(0.4 * np.eye(2))])
def test_a_rotating_drift_has_complex_rates(turn, diffusion):
    grid = Grid([-3.6, -3.6], [3.6, 3.6], 24)
    equation = FokkerPlanck(grid, diffusion, drift=linear([[1, turn], [-turn, 1]]))
    found = equation.relaxation_rates(7)
    dense = -np.linalg.eigvals(equation.generator.toarray())
    dense = dense[np.lexsort((dense.imag, dense.real))][1:8]
    # Slow first, whatever the modulus; pairs together.
    np.testing.assert_allclose(found, dense, rtol=1e-8)
    # The slowest pair is 1 -+ i turn, to second order in h = 0.3.
    np.testing.assert_allclose(found[:2].imag, [-turn, turn], rtol=0.05)
    np.testing.assert_allclose(found[:2].real, 1, rtol=0.05)


def test_rates_do_not_change_from_call_to_call():
    grid = Grid([-2, -2], [2, 2], 12)
    turning = linear([[1, 2], [-2, 1]])
    for force in ({"potential": quadratic(COUPLED)}, {"drift": turning}):
        equation = FokkerPlanck(grid, 0.4, **force)
        np.testing.assert_array_equal(
            equation.relaxation_rates(4), equation.relaxation_rates(4)
        )


def test_all_rates_but_two_can_be_had():
    small = Grid([-2, -2], [2, 2], 3)
    rates = []
    for equation in (
        FokkerPlanck(small, 0.4, potential=quadratic(COUPLED)),
        FokkerPlanck(small, 0.4, drift=linear(COUPLED)),
        FokkerPlanck(Grid(-2, 2, 9), 0.4, potential=double_well),
    ):
        rates.append(equation.relaxation_rates(6))
        dense = np.sort(-np.linalg.eigvals(equation.generator.toarray()).real)
        np.testing.assert_allclose(rates[-1].real, dense[1:7], rtol=1e-8)


def test_escape_from_a_well_by_shooting():
    # The slowest mode is odd: T f'' - L' f' + rate f = 0, f(0) = 0, f'(wall) = 0.
    T, wall = 0.1, 2.2

    def slope_at_wall(rate):
        path = solve_ivp(
            lambda x, f: [f[1], ((x**3 - x) * f[1] - rate * f[0]) / T],
            (0, wall),
            [0, 1],
            method="DOP853",
            rtol=1e-11,
            atol=1e-13,
        )
        return path.y[1, -1]

    exact = brentq(slope_at_wall, 1e-3, 0.2, xtol=1e-13)
    cells = [50, 100, 200]
    errors = [
        FokkerPlanck(Grid(-wall, wall, n), T, potential=double_well).relaxation_rates(1)
        / exact
        - 1
        for n in cells
    ]
    assert abs(errors[-1][0]) < 3e-4
    assert fitted_order(cells, np.abs(errors)[:, 0]) == pytest.approx(2, abs=0.03)


def test_escape_from_a_deep_well_by_its_mean_time():
    # Kramers: rate = 1 / (mean time from the bottom to the top), of order rate / next
    # rate = 2e-6; the time is a double quadrature. Half of those at the top return.
    T, wall = 0.02, 2.0

    def inner(y):
        return quad(lambda z: np.exp(-((z**2 - 1) ** 2) / 4 / T), y, wall)[0]

    time = quad(lambda y: np.exp((y**2 - 1) ** 2 / 4 / T) * inner(y), 0, 1)[0] / T
    rates = [
        FokkerPlanck(Grid(-wall, wall, n), T, potential=double_well).relaxation_rates(2)
        for n in (200, 400)
    ]
    assert rates[1][0] / rates[1][1] < 3e-6
    # Richardson over errors of 2e-3 and 5e-4; the matrix is accurate to 1e-16 times
    # its fastest rate, 400, that is to 2e-8 of the slowest.
    slowest = (4 * rates[1][0] - rates[0][0]) / 3
    assert slowest * time == pytest.approx(1, abs=2e-5)
    arrhenius = math.sqrt(2) / np.pi * np.exp(-0.25 / T)
    assert slowest == pytest.approx(
        arrhenius, rel=0.15
    )  # corrections of order T / 0.25


@pytest.mark.parametrize("k", [0, -1, 7, 1.0, None])
def test_relaxation_rates_are_counted_from_one(k):
    equation = FokkerPlanck(
        Grid([-1, -1], [1, 1], 3), 1.0, potential=quadratic(COUPLED)
    )
    with pytest.raises(
        ValueError, match=f"k must be an integer from 1 to 6, got {re.escape(repr(k))}"
    ):
        equation.relaxation_rates(k)
    assert len(equation.relaxation_rates(np.int64(2))) == 2


def test_matrices_are_for_two_weights_at_most():
    equation, _ = coupled_in_three()
    with pytest.raises(ValueError, match="generator is for d <= 2, the grid has d = 3"):
        _ = equation.generator
    with pytest.raises(ValueError, match="generator is for d <= 2"):
        equation.relaxation_rates(1)


# --- evolution: identities ----------------------------------------------------------


def test_two_runs_in_a_row_are_one():
    equation, start = ornstein_uhlenbeck()
    first = equation.evolve(start, 0.4, dt=0.002)[0]
    second = equation.evolve(first, 0.7, dt=0.002)[0]
    whole = equation.evolve(start, 1.1, dt=0.002)[0]
    # Errors in time of 2e-6, by the order of the method at dt = 0.002
    assert 0 < distance(equation.grid, second, whole) < 3e-6


def test_duality():
    # <f> at time t is the mean of exp(t A^T) f at the start; steps of two lengths,
    # extrapolated, leave an error of dt^4.
    equation = FokkerPlanck(Grid(-3, 3, 60), 0.5, potential=double_well)
    start = normalised(equation.grid, gaussian(equation.grid, 0.5, 0.5))
    ends = [equation.evolve(start, 1.0, dt=dt)[0] for dt in (1 / 400, 1 / 800)]
    f = np.sin(2 * equation.grid.centers[0]) + equation.grid.centers[0] ** 2
    backwards = expm_multiply(equation.generator.T * 1.0, f)
    forward = (4 * equation.mean(f, ends[1]) - equation.mean(f, ends[0])) / 3
    assert forward == pytest.approx(equation.mean(backwards, start), abs=1e-10)


@pytest.mark.parametrize("force", ["potential", "drift"])
def test_two_independent_weights(force):
    grid = Grid([-4, -3], [4, 3], [50, 40])
    drifts = [lambda w: -w, lambda w: w - w**3]
    potentials = [lambda w: w[:, 0] ** 2 / 2, double_well]
    lines = []
    for axis, D in enumerate((0.5, 0.3)):
        line = Grid(grid.edges[axis][0], grid.edges[axis][-1], grid.shape[axis])
        one = {"potential": potentials[axis], "drift": drifts[axis]}[force]
        equation = FokkerPlanck(line, D, **{force: one})
        lines.append((equation, normalised(line, gaussian(line, 0.5, 0.4))))
    both = {
        "potential": lambda w: potentials[0](w[:, :1]) + potentials[1](w[:, 1:]),
        "drift": lambda w: np.hstack([drifts[0](w[:, :1]), drifts[1](w[:, 1:])]),
    }[force]
    equation = FokkerPlanck(grid, [0.5, 0.3], **{force: both})
    (one, start_one), (other, start_other) = lines
    expected = np.kron(one.generator.toarray(), np.eye(40)) + np.kron(
        np.eye(50), other.generator.toarray()
    )
    fastest = np.abs(expected).max()
    assert np.abs(equation.generator.toarray() - expected).max() < 1e-13 * fastest
    end = equation.evolve(np.outer(start_one, start_other), 0.5)[0]
    ends = [line.evolve(start, 0.5)[0] for line, start in lines]
    # a few times the error that is allowed to each
    assert distance(grid, end, np.outer(*ends)) < 20 * TIME_ERROR


@pytest.mark.filterwarnings("ignore::fpbook.fokker_planck.MassAtWallWarning")
@pytest.mark.parametrize("dimensions", [3, 4])
@pytest.mark.parametrize("kind", ["constant", "diagonal", "drift"])
def test_independent_weights_step_as_on_their_own(dimensions, kind):
    # Along an axis a Strang step is two half steps (the last axis: one whole step) of
    # the one-dimensional problem, to rounding.
    shape, dt = (9, 7, 8, 6)[:dimensions], 0.02
    box = np.array([2.0, 2.5, 3.0, 1.5])[:dimensions]
    D = np.array([0.5, 0.3, 0.2, 0.4])
    grid = Grid(-box, box, shape)
    diffusion = D[:dimensions]
    force = {"potential": lambda w: (w**4).sum(axis=1) / 4}
    if kind == "diagonal":
        diffusion = lambda w: D[: w.shape[1]] * (1 + 0.3 * w**2)  # noqa: E731
    if kind == "drift":
        force = {"drift": lambda w: -(w**3) + 0.5}
    equation = FokkerPlanck(grid, diffusion, **force)
    rng = np.random.default_rng(0)
    starts = [rng.uniform(0.5, 1.5, n) for n in shape]
    starts = [p / p.sum() for p in starts]
    density, expected = np.ones(()), np.ones(())
    steps = []
    for axis in range(dimensions):
        line = Grid(-box[axis], box[axis], shape[axis])
        own = D[axis]
        if kind == "diagonal":
            own = lambda w, axis=axis: D[axis] * (1 + 0.3 * w**2)  # noqa: E731
        one = FokkerPlanck(line, own, **force)
        last = axis == dimensions - 1
        steps.append((lu_step(one.generator, dt if last else dt / 2), 1 if last else 2))
        density = np.multiply.outer(density, starts[axis])
    density /= grid.cell_volume
    result = equation.evolve(density, [dt, 2 * dt, 3 * dt], dt)
    assert result.shape == (3, *shape)
    for axis, (step, repeats) in enumerate(steps):
        p = starts[axis]
        for smooth in (True, True, False):
            for _ in range(repeats):
                p = step(p, smooth)
        expected = np.multiply.outer(expected, p)
    np.testing.assert_allclose(result[-1], expected / grid.cell_volume, rtol=1e-11)


@pytest.mark.filterwarnings("ignore::fpbook.fokker_planck.MassAtWallWarning")
@pytest.mark.parametrize(
    ("order", "kind"),
    [
        *product([(1, 0), (2, 0, 1), (0, 2, 1)], ["potential", "drift"]),
        ((1, 0), "tensor"),
    ],
)
def test_the_axes_may_change_their_names(order, kind):
    d = len(order)
    lower, upper = -np.array([2.0, 2.2, 1.8])[:d], np.array([2.1, 2.0, 2.4])[:d]
    shape = np.array([14, 12, 10])[:d]
    D = np.array([0.3, 0.2, 0.25])[:d]
    matrix = np.array([[1.0, 0.4, -0.2], [-0.3, 1.2, 0.1], [0.2, 0.5, 0.8]])[:d, :d]
    tensor = np.array([[0.3, 0.1], [0.1, 0.2]])
    order = list(order)

    def problem(permuted):
        turn = order if permuted else list(range(d))
        back = np.argsort(turn)
        grid = Grid(lower[turn], upper[turn], shape[turn])
        if kind == "potential":
            force = {"potential": lambda w: quadratic(COUPLED)(w[:, back][:, :2])}
        else:
            force = {"drift": lambda w: (-w[:, back] @ matrix.T)[:, turn]}
        noise = constantly(tensor[np.ix_(turn, turn)]) if kind == "tensor" else D[turn]
        return FokkerPlanck(grid, noise, **force)

    plain, permuted = problem(False), problem(True)
    mean = np.array([0.3, -0.2, 0.1])[:d]
    start = normalised(plain.grid, gaussian(plain.grid, mean, 0.5))
    end = plain.evolve(start, 0.4, dt=0.004)[0]
    other = permuted.evolve(start.transpose(order), 0.4, dt=0.004)[0]
    gap = distance(plain.grid, end.transpose(order), other)
    # With a whole factorisation rounding, with a splitting its error of second order
    assert gap < (1e-12 if d == 2 else 2e-5)
    np.testing.assert_allclose(
        plain.current(end)[order].transpose(0, *(1 + np.array(order))),
        permuted.current(end.transpose(order)),
        atol=1e-12,
    )


def test_free_energy_falls_to_minus_the_logarithm_of_the_sum_of_states():
    grid = Grid([-3, -3], [3, 3], 40)
    equation = FokkerPlanck(
        grid,
        0.2,
        potential=lambda w: (1 - w[:, 0] * w[:, 1]) ** 2 / 2 + 0.3 * (w**2).sum(axis=1),
    )
    start = normalised(grid, gaussian(grid, [0.8, -0.4], 0.25))
    path = equation.evolve(start, [0, 0.1, 0.3, 1, 3, 10, 100])
    energy = equation.free_energy(path)
    assert energy.shape == (7,)
    w = grid.points
    levels = (1 - w[:, 0] * w[:, 1]) ** 2 / 2 + 0.3 * (w**2).sum(axis=1)
    least = -0.2 * np.log(np.exp(-levels / 0.2).sum() * grid.cell_volume)
    assert np.all(np.diff(energy) < 0)
    assert equation.free_energy(equation.stationary_density()) == pytest.approx(
        least, abs=1e-14
    )
    # F - F_min is T times a relative entropy, quadratic in what is left of the start.
    assert energy[-1] == pytest.approx(least, abs=1e-9)
    assert np.all(energy >= least - 1e-14)
    # From its definition, where every cell is occupied
    p = path[3]
    by_hand = ((levels.reshape(p.shape) + 0.2 * np.log(p)) * p).sum() * grid.cell_volume
    assert isinstance(equation.free_energy(p), float)
    assert equation.free_energy(p) == pytest.approx(by_hand, rel=ROUNDING)


def test_empty_cells_have_no_entropy():
    equation = FokkerPlanck(Grid(0, 1, 4), 0.5, potential=lambda w: w[:, 0])
    density = np.array([0.0, 4.0, 0.0, -1e-30])
    assert equation.free_energy(density) == pytest.approx(0.375 + 0.5 * np.log(4))


@pytest.mark.parametrize(
    ("diffusion", "force"),
    [
        (0.5, {"drift": lambda w: -w}),
        ([0.5, 0.6], {"potential": quadratic(COUPLED)}),
        (lambda w: 1 + w**2, {"potential": quadratic(COUPLED)}),
    ],
)
def test_free_energy_needs_a_potential_and_a_temperature(diffusion, force):
    grid = Grid([-1, -1], [1, 1], 4)
    equation = FokkerPlanck(grid, diffusion, **force)
    with pytest.raises(
        ValueError, match="needs a potential and a diffusion that is one number"
    ):
        equation.free_energy(np.full((4, 4), 0.25))


def test_free_energy_of_what_is_no_density_is_refused():
    equation = FokkerPlanck(Grid(-1, 1, 4), 0.5, potential=lambda w: w[:, 0] ** 2 / 2)
    density = np.array([0.9e-6, 0.9e-6, 1.0, 1.0])
    assert np.all(
        np.isfinite(equation.free_energy([density, density * [-1, -1, 1, 1]]))
    )
    density[0] = -3e-6
    with pytest.raises(
        ValueError, match=r"^density must be >= 0, got .* 1\.5e-06 below"
    ):
        equation.free_energy([np.full(4, 0.5), density])


# --- evolution: exact moments -------------------------------------------------------


@pytest.mark.parametrize("growth", [0.05, 0.2, 0.3])
def test_the_noise_is_read_before_the_step(growth):
    # Ito: d<y^2>/dt = -2 (k - B) <y^2> + 2 A. Stratonovich would have k - 2 B.
    k, A, time, found = 1.0, 0.1, 0.8, []
    for n in (300, 600):
        grid = Grid(-24, 24, n)
        equation = FokkerPlanck(
            grid, lambda w: A + growth * w**2, drift=lambda w: -k * w
        )
        end = equation.evolve(gaussian(grid, 0.6, 0.4), time, dt=time / 200)[0]
        found.append([equation.mean(lambda w, i=i: w[:, 0] ** i, end) for i in (1, 2)])
    # Leaves h^4 and the tails; the cells' own h^2 / 12 at the start goes with h^2.
    mean, second = (4 * np.array(found[1]) - found[0]) / 3
    assert mean == pytest.approx(0.6 * np.exp(-k * time), abs=3e-4)

    def exact(rate):
        return A / rate + (0.36 + 0.16 - A / rate) * np.exp(-2 * rate * time)

    assert second == pytest.approx(exact(k - growth), abs=3e-4)
    assert abs(second - exact(k - 2 * growth)) > 0.01


ETA, BATCH, LABEL_NOISE = 0.4, 2, 1.0


def rank_one(floor_only):
    """Minibatch noise of the scalar autoencoder, along v = (w2, w1) only."""

    def size(w):
        misfit = 0 if floor_only else 2 * (1 - w[:, 0] * w[:, 1]) ** 2
        return misfit + LABEL_NOISE**2 + 0 * w[:, 0]

    def diffusion(w):
        v = w[:, ::-1]
        return ETA / (2 * BATCH) * np.einsum("n,ni,nj->nij", size(w), v, v)

    def drift(w):
        return (1 - w[:, 0] * w[:, 1])[:, None] * w[:, ::-1]

    return size, diffusion, drift


def test_noise_of_rank_one_has_the_moments_of_sgd():
    # On q = w1^2 - w2^2 there is neither drift nor noise, but c v v^T of Ito:
    # d<q>/dt = -(eta / B) <c q>; on u = w1 w2: (1 - u)(w1^2 + w2^2) + (eta / B) c u.
    # The smaller eigenvalue, zero, is raised to a hundredth of the other, on the normal
    # of v, which takes a hundredth of both noise terms away.
    size, diffusion, drift = rank_one(floor_only=False)
    found = []
    for n in (45, 135):
        grid = Grid([-0.3, -0.6], [2.1, 1.8], n)
        with pytest.warns(UserWarning, match="in 100% of the cells"):
            equation = FokkerPlanck(grid, diffusion, drift=drift)
        w = grid.points
        observables = np.stack([w[:, 0] ** 2 - w[:, 1] ** 2, w[:, 0] * w[:, 1]], axis=1)
        changes = equation.generator.T @ observables
        # The same places on both grids, in the middle: hops must not meet a wall.
        middle = slice(n // 90 + 17 * n // 45, 28 * n // 45, n // 45)
        places = np.arange(n * n).reshape(n, n)[middle, middle].ravel()
        found.append(changes[places])
        w, (q, u) = w[places], observables[places].T
    noise = 0.99 * ETA / BATCH * size(w)
    exact = np.stack([-noise * q, (1 - u) * (w**2).sum(axis=1) + noise * u], axis=1)
    richardson = (9 * found[1] - found[0]) / 8
    # What is left is of fourth order in h a / D, here up to 0.5 on the fine grid
    assert np.abs(richardson - exact).max() < 0.02 * np.abs(exact).max()
    assert np.abs(found[1] - exact).max() < 0.2 * np.abs(found[0] - exact).max()


def test_label_noise_balances_the_layers():
    # With c constant <q> decays alone: exp(-0.99 eta c / B t). Exact, whatever u does.
    _, diffusion, drift = rank_one(floor_only=True)
    found = []
    for n in (60, 120):
        grid = Grid([-1.5, -1.7], [4.2, 4.0], n)
        with pytest.warns(UserWarning, match="the smaller was raised"):
            equation = FokkerPlanck(grid, diffusion, drift=drift)
        start = gaussian(grid, [1.3, 0.8], 0.2)
        path = equation.evolve(start, [0.0, 0.5], dt=0.01)
        found.append(equation.mean(lambda w: w[:, 0] ** 2 - w[:, 1] ** 2, path))
    (before, coarse), (_, fine) = found
    assert before == pytest.approx(1.3**2 - 0.8**2, abs=1e-5)
    expected = before * np.exp(-0.99 * ETA * LABEL_NOISE**2 / BATCH * 0.5)
    # Second order: 4e-2 and 1e-2 on the two grids.
    assert (4 * fine - coarse) / 3 == pytest.approx(expected, rel=3e-3)
    assert abs(fine - expected) < 0.3 * abs(coarse - expected)


def test_a_gaussian_evolves_with_a_tensor_by_its_covariance():
    # V' = -H V - V H + 2 D and m' = -H m, for a start that has no correlation.
    decay, time = expm(-HESSIAN * 0.4), 0.4
    limit = solve_continuous_lyapunov(HESSIAN, 2 * NOISE)
    covariance = limit + decay @ (0.09 * np.eye(2) - limit) @ decay
    mean, errors, cells = np.array([0.8, -0.5]), [], [50, 75, 110]
    for n in cells:
        grid = Grid([-4.5, -3.0], [4.5, 3.0], n)
        equation = FokkerPlanck(grid, constantly(NOISE), potential=quadratic(HESSIAN))
        end = equation.evolve(gaussian(grid, mean, 0.3), time, dt=time / 100)[0]
        errors.append(
            distance(grid, end, normal_averages(grid, decay @ mean, covariance))
        )
    assert 1.95 <= fitted_order(cells, errors) <= 2.05


# --- evolution: times and steps -----------------------------------------------------


@pytest.mark.parametrize(
    "times",
    [
        [0.7],
        [0.01, 0.3, 1.0, 1.1, 7.0],
        np.linspace(0, 2, 21),
        [1e-6, 1.0],
    ],
)
def test_chosen_steps_are_as_accurate_as_they_say(times):
    equation, start = ornstein_uhlenbeck()
    path = equation.evolve(start, times)
    generator = equation.generator.toarray()
    for time, density in zip(times, path, strict=True):
        exact = expm(generator * time) @ start
        # "in practice a few times" the error allowed to a pair of steps
        assert distance(equation.grid, density, exact) < 6 * TIME_ERROR
    assert path.min() >= -1e-14 * path.max()


def test_chosen_steps_are_as_accurate_from_one_cell():
    equation, _ = ornstein_uhlenbeck()
    start = np.zeros(150)
    start[100] = 1 / equation.grid.cell_volume
    times = [1e-3, 0.1, 2.0]
    generator = equation.generator.toarray()
    for time, density in zip(times, equation.evolve(start, times), strict=True):
        exact = expm(generator * time) @ start
        assert distance(equation.grid, density, exact) < 6 * TIME_ERROR


@pytest.mark.parametrize("dimensions", [2, 3])
def test_chosen_steps_in_more_dimensions(dimensions):
    if dimensions == 2:
        grid = Grid([-4, -3], [4, 3], [30, 32])
        equation = FokkerPlanck(grid, constantly(NOISE), potential=quadratic(HESSIAN))
        start = normalised(grid, gaussian(grid, [0.5, 0.4], 0.4))
        generator = equation.generator
    else:
        equation, start = coupled_in_three()
        generator = generator_of(equation)
    with warnings.catch_warnings():
        # The reference has the same walls: mass at them does no harm here.
        warnings.simplefilter("ignore", MassAtWallWarning)
        end = equation.evolve(start, 0.6)[0]
    exact = expm_multiply(generator * 0.6, start.ravel()).reshape(start.shape)
    assert distance(equation.grid, end, exact) < 8 * TIME_ERROR


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_the_first_step_is_of_the_length_that_is_allowed(scale, monkeypatch):
    # A pair of smoothing steps and one of twice the length differ by tau^2 |A A p| / 2.
    made = []

    def recorded(generator, dt):
        made.append(dt)
        return lu_step(generator, dt)

    monkeypatch.setattr(module, "lu_step", recorded)
    grid = Grid(-6, 6, 150)
    equation = FokkerPlanck(grid, 0.5 * scale, potential=quadratic(scale * np.eye(1)))
    start = gaussian(grid, 1.5, 0.3)
    equation.evolve(start, 0.5 / scale)
    A = equation.generator
    size = np.abs(A @ (A @ start)).sum() * grid.cell_volume
    # A power of two of the time to go, so up to a half shorter, and then accepted.
    assert TIME_ERROR / 4 < made[0] ** 2 * size / 2 <= TIME_ERROR
    assert made[1] == 2 * made[0]
    assert min(made) == made[0]


def test_chosen_steps_follow_a_long_relaxation():
    # From a step of 1e-4 to one of tens, so that a time of 1e3 is reached in a moment.
    equation, start = ornstein_uhlenbeck()
    end = equation.evolve(start, 1e3)[0]
    stationary = equation.stationary_density()
    # The start lacks 3e-51 of its mass; rounding times dt times the fastest rate, 1e5
    assert distance(equation.grid, end, stationary) < 1e-10


def test_the_time_zero_is_the_start():
    equation, start = ornstein_uhlenbeck()
    for dt in (None, 0.1):
        path = equation.evolve(start, [0, 0.5], dt)
        np.testing.assert_array_equal(path[0], start)
        np.testing.assert_array_equal(equation.evolve(start, 0, dt), [start])
        np.testing.assert_array_equal(equation.evolve(start, 0.5, dt)[0], path[1])


def test_a_stationary_start_stays():
    equation, _ = ornstein_uhlenbeck()
    p = equation.stationary_density()
    for dt in (None, 0.3):
        assert distance(equation.grid, equation.evolve(p, 3.0, dt)[0], p) < 1e-12


def test_steps_are_shortened_to_divide_the_time():
    # 1 / 3.3 steps of 0.3 are four of 0.25, and again for the second distance.
    equation, start = ornstein_uhlenbeck()
    path = equation.evolve(start, [1.0, 1.5], dt=0.3)
    step, half = (lu_step(equation.generator, dt) for dt in (0.25, 0.25))
    expected = start
    for number in range(4):
        expected = step(expected, number < 2)
    np.testing.assert_array_equal(path[0], expected)
    for _ in range(2):
        expected = half(expected, False)
    np.testing.assert_array_equal(path[1], expected)


@pytest.mark.parametrize(
    "times",
    [[], [[1.0, 2.0]], [-0.1, 1.0], [1.0, 1.0], [2.0, 1.0], np.nan, [1.0, np.inf]],
)
def test_times_must_increase(times):
    equation, start = ornstein_uhlenbeck()
    with pytest.raises(ValueError, match="times must be >= 0 and increasing"):
        equation.evolve(start, times)


@pytest.mark.parametrize("dt", [0.0, -1.0, np.nan, np.inf])
def test_dt_must_be_positive(dt):
    equation, start = ornstein_uhlenbeck()
    with pytest.raises(ValueError, match=f"dt must be finite and > 0, got {dt}"):
        equation.evolve(start, 1.0, dt)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda p: p[1:],
            r"density must have the shape \(150,\) of the grid, got \(149",
        ),
        (
            lambda p: p[None],
            r"density must have the shape \(150,\) of the grid, got \(1",
        ),
        (lambda p: np.where(p == p.max(), np.nan, p), "density must be finite"),
        (lambda p: p - 2e-6, r"must be >= 0, got a mass of 1\.8e-05 below 0"),
        (
            lambda p: 1.00001 * p,
            r"density must have mass 1 \(within 1e-06\), got 1.00001;",
        ),
        (lambda p: p * 0, "got 0; a larger box loses less"),
    ],
)
def test_bad_densities_are_refused(change, message):
    equation, start = ornstein_uhlenbeck()
    with pytest.raises(ValueError, match=message):
        equation.evolve(change(start), 1.0)


def test_a_density_may_be_wrong_by_a_millionth():
    equation, start = ornstein_uhlenbeck()
    for factor in (1 - 0.9e-6, 1 + 0.9e-6):
        mass = equation.evolve(factor * start, 0.1)[0].sum() * equation.grid.cell_volume
        assert mass == pytest.approx(factor, abs=1e-12)
    nearly = start - 0.9e-6 / 12 * (start < 1e-9)
    assert nearly.min() < 0
    equation.evolve(nearly, 0.1)


@pytest.mark.parametrize(
    ("dt", "message"),
    [
        (0.1, "density is not finite at time 1"),
        (None, "density changes too fast at time 0 for any step"),
    ],
)
def test_what_is_not_finite_is_refused(dt, message):
    # Rates of 1e312 are more than a number holds.
    grid = Grid([-1e-2] * 3, [1e-2] * 3, 8)
    start = normalised(grid, gaussian(grid, 0, 2e-3))
    with np.errstate(all="ignore"):
        equation = FokkerPlanck(grid, 1e307, drift=lambda w: -w)
        with pytest.raises(FloatingPointError, match=message):
            equation.evolve(start, [1.0, 2.0], dt)


@pytest.mark.parametrize(
    ("axis", "side", "wall"), [(0, -1, "-2"), (0, 1, "3"), (1, -1, "-4"), (1, 1, "5")]
)
def test_the_wall_that_is_reached_is_named(axis, side, wall):
    grid = Grid([-2, -4], [3, 5], [20, 36])
    towards = np.zeros(2)
    towards[axis] = 2.0 * side
    equation = FokkerPlanck(grid, 0.05, drift=constantly(towards))
    start = normalised(grid, gaussian(grid, [0.5, 0.5], 0.2))
    with pytest.warns(MassAtWallWarning) as caught:
        path = equation.evolve(start, [0.0, 1.0, 3.0], dt=0.05)
    (warning,) = caught
    layer = np.take(path, 0 if side < 0 else -1, axis=axis + 1)
    mass = layer.sum(axis=1) * grid.cell_volume
    number = int(mass.argmax())
    assert mass[number] > 0.05
    assert str(warning.message) == (
        f"{mass[number]:.2g} of the mass is in the cells at the wall w[{axis}] = "
        f"{wall} at time {[0, 1, 3][number]}; a larger box avoids it"
    )
    assert warning.filename == __file__


def test_the_worst_wall_is_named_and_a_millionth_is_not():
    grid = Grid(-1, 1, 10)
    equation = FokkerPlanck(grid, 1e-9, drift=lambda w: 0 * w)
    h = grid.cell_volume
    density = np.full(10, 0.0)
    density[5] = 1 / h
    density[[0, -1]] = 0.9e-6 / h
    density[5] -= 1.8e-6 / h
    equation.evolve(density, [1e-3], dt=1e-3)
    density[0], density[-1] = 3e-6 / h, 2e-6 / h
    density /= density.sum() * h
    with pytest.warns(
        MassAtWallWarning, match=r"^3e-06 of .* w\[0\] = -1 at time 0.001"
    ):
        equation.evolve(density, [1e-3], dt=1e-3)


def test_a_step_that_is_too_long_is_told():
    grid = Grid(-6, 6, 200)
    equation = FokkerPlanck(grid, 0.5, potential=quadratic(np.eye(1)))
    start = gaussian(grid, 3, 0.1)
    with pytest.warns(NegativeDensityWarning) as caught:
        path = equation.evolve(start, [1.0, 3.0, 10.0], dt=1.0)
    (warning,) = caught
    below = -np.minimum(path, 0).sum(axis=1) * grid.cell_volume
    assert below.argmax() == 1
    assert str(warning.message) == (
        f"a mass of {below[1]:.2g} is below zero at time 3; a shorter dt avoids it"
    )
    assert warning.filename == __file__
    equation.evolve(start, [1.0, 3.0, 10.0], dt=0.01)  # and is not, if it is short


@pytest.mark.parametrize("static", ["", "1"])
@pytest.mark.parametrize("dt", [None, 0.01])
def test_progress_is_told_and_changes_nothing(static, dt, monkeypatch, capsys):
    monkeypatch.setenv(progress.STATIC_ENVIRONMENT, static)
    monkeypatch.setattr(progress, "SECONDS_BEFORE_SHOWN", 0.0)
    equation, start = ornstein_uhlenbeck()
    end = equation.evolve(start, [0.0, 0.5], dt)[1]
    drawn = capsys.readouterr()
    assert ("Fokker-Planck" in drawn.out + drawn.err) == (static == "")
    monkeypatch.setattr(progress, "SECONDS_BEFORE_SHOWN", 60.0)
    np.testing.assert_array_equal(equation.evolve(start, [0.5], dt)[0], end)


@pytest.mark.parametrize("dt", [None, 0.03])
def test_progress_counts_time(dt, monkeypatch):
    opened = []

    class Bar:
        def __init__(self, total, description):
            self.total, self.amounts = total, []
            opened.append(self)

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            return None

        def update(self, amount):
            self.amounts.append(amount)

    monkeypatch.setattr(progress, "bar", Bar)
    equation, start = ornstein_uhlenbeck()
    equation.evolve(start, [0.1, 0.5, 0.9], dt)
    (bar,) = opened
    assert bar.total == 0.9
    assert min(bar.amounts) > 0
    assert sum(bar.amounts) == pytest.approx(0.9, rel=ROUNDING)


# --- means --------------------------------------------------------------------------


def test_means_of_functions_and_of_arrays():
    grid = Grid([0, 0], [2, 3], [2, 3])
    equation = FokkerPlanck(grid, 1.0, drift=lambda w: -w)
    p = np.arange(6.0).reshape(2, 3) / 15
    centers = grid.points.reshape(2, 3, 2)
    by_hand = (p * centers[..., 0] * centers[..., 1]).sum()
    product = equation.mean(lambda w: w[:, 0] * w[:, 1], p)
    assert isinstance(product, float)
    assert product == pytest.approx(by_hand, rel=ROUNDING)
    assert equation.mean(centers.prod(axis=-1), p) == pytest.approx(by_hand)
    several = equation.mean(centers.prod(axis=-1), np.stack([[p, 2 * p, 3 * p]] * 2))
    np.testing.assert_allclose(several, [by_hand * np.array([1, 2, 3])] * 2)


def test_means_refuse_other_shapes():
    grid = Grid([0, 0], [2, 3], [2, 3])
    equation = FokkerPlanck(grid, 1.0, potential=quadratic(COUPLED))
    p = np.full((2, 3), 1 / 6)
    for bad in (p[0], p.T, p.ravel()):
        for call in (
            lambda q: equation.mean(lambda w: w[:, 0], q),
            equation.free_energy,
        ):
            with pytest.raises(
                ValueError,
                match=r"density must have the shape \(2, 3\) of the grid "
                rf"\(after any leading axes\), got {re.escape(str(bad.shape))}",
            ):
                call(bad)
        with pytest.raises(ValueError, match=r"^density must .* the grid, got \("):
            equation.current(bad)
    for bad in (p[0], np.stack([p, p])):
        with pytest.raises(
            ValueError, match=r"^observable must .* of the grid, got \("
        ):
            equation.mean(bad, p)
    with pytest.raises(
        ValueError, match=r"^density must .* of the grid, got \(2, 2, 3"
    ):
        equation.current(np.stack([p, p]))
    with pytest.raises(ValueError, match=r"observable must return shape \(n\)"):
        equation.mean(lambda w: w, p)


# --- construction -------------------------------------------------------------------


def test_either_a_potential_or_a_drift():
    grid = Grid(-1, 1, 4)
    with pytest.raises(ValueError, match="give either potential or drift, got neither"):
        FokkerPlanck(grid, 1.0)
    with pytest.raises(ValueError, match="give either potential or drift, got both"):
        FokkerPlanck(grid, 1.0, potential=double_well, drift=lambda w: -w)


@pytest.mark.parametrize(
    ("diffusion", "force", "message"),
    [
        (1.0, {"potential": lambda w: w}, r"potential must return shape \(n\)"),
        (1.0, {"drift": double_well}, r"drift must return shape \(n, 2\)"),
        (1.0, {"potential": lambda w: 1 / (w[:, 0] > 0)}, "potential must be finite"),
        (-1.0, {"drift": lambda w: w}, "diffusion must be >= 0"),
        (lambda w: w, {"drift": lambda w: w}, "diffusion must be >= 0"),
        (
            constantly([[1.0, 2.0], [2.0, 1.0]]),
            {"drift": lambda w: w},
            "got values from -1 to 3",
        ),
    ],
)
def test_bad_coefficients_are_refused(diffusion, force, message):
    grid = Grid([-1, -1], [1, 1], 4)
    with np.errstate(divide="ignore"), pytest.raises(ValueError, match=message):
        FokkerPlanck(grid, diffusion, **force)


def test_a_force_is_asked_on_the_faces_too():
    # Finite at the centres of 4 cells, not on the face at 0.
    with (
        np.errstate(divide="ignore"),
        pytest.raises(ValueError, match=r"drift must be finite .* is not at \[0\.\]"),
    ):
        FokkerPlanck(Grid(-1, 1, 4), 1.0, drift=lambda w: 1 / np.abs(w))


def test_the_anisotropy_warning_points_to_the_caller():
    tensor = constantly([[1.0, 0.0], [0.0, 1e-4]])
    with pytest.warns(UserWarning, match="more than a factor 100 in 100%") as caught:
        FokkerPlanck(Grid([-1, -1], [1, 1], 4), tensor, drift=lambda w: -w)
    assert caught[0].filename == __file__


@pytest.fixture
def memory(monkeypatch, tmp_path):
    """Write what the machine and the container say about memory, in bytes or words."""

    def tell(available=None, limit=None, used=None):
        table = available and f"MemFree: 1 kB\nMemAvailable: {available // 1024} kB"
        for name, text in (
            ("MEMORY_INFORMATION", table),
            ("CONTAINER_LIMIT", limit),
            ("CONTAINER_USE", used),
        ):
            path = tmp_path / name
            path.unlink(missing_ok=True)
            if text is not None:
                path.write_text(f"{text}\n")
            monkeypatch.setattr(module, name, path)

    return tell


def four_weights(cells=10):
    grid = Grid([-1] * 4, [1] * 4, cells)
    return FokkerPlanck(grid, 1.0, potential=lambda w: (w**2).sum(axis=1))


# 8 bytes times (8 d + 10) numbers for each of 10^4 cells
NEEDED = 8 * 42 * 10**4


def test_memory_is_refused_before_it_is_taken(memory):
    asked = []
    memory(available=NEEDED - 2048)
    grid = Grid([-1] * 4, [1] * 4, 10)
    with pytest.raises(
        ValueError,
        match=r"grid of 10 x 10 x 10 x 10 cells needs about 0\.00336 GB of memory, "
        r"available are 0\.00336 GB; use fewer cells",
    ):
        FokkerPlanck(grid, 1.0, potential=asked.append)
    assert asked == []
    memory(available=NEEDED + 2048)
    four_weights()


def test_memory_of_the_container_counts(memory):
    memory(available=10**12, limit=NEEDED + 5000, used=5001)
    with pytest.raises(ValueError, match="use fewer cells"):
        four_weights()
    memory(available=10**12, limit=NEEDED + 5000, used=5000)
    four_weights()
    memory(available=10**12, limit="max", used=5001)
    four_weights()
    memory(available=NEEDED - 2048, limit=10**12, used=0)
    with pytest.raises(ValueError, match="use fewer cells"):
        four_weights()
    memory(available=10**12, limit=1000)  # no word on the use
    four_weights()


def test_memory_without_linux(memory, monkeypatch):
    memory()
    pages = {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 3000}
    monkeypatch.setattr(module.os, "sysconf", pages.get)
    with pytest.raises(ValueError, match=r"available are 0\.003 GB"):
        four_weights()
    monkeypatch.setattr(module.os, "sysconf_names", {})
    four_weights()


def test_few_weights_are_not_asked_for_memory(memory):
    memory(available=1)
    FokkerPlanck(Grid([-1, -1], [1, 1], 4), 1.0, potential=quadratic(COUPLED))
    with pytest.raises(ValueError, match="use fewer cells"):
        FokkerPlanck(Grid([-1] * 3, [1] * 3, 4), 1.0, drift=lambda w: -w)
