"""The equation of a log-density on exact and computed densities; surfaces measured.

Independent references: Gaussian solutions in closed form, term by term; densities of
the Fokker-Planck solver; jackknives by hand with scipy's moments; exact structure
factors of random walks; clouds of independent networks. Statistical tolerances are four
standard errors, with fixed seeds.
"""

import math
import re
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.linalg import expm

from fpbook.fokker_planck import FokkerPlanck, Grid, gaussian
from fpbook.kpz import (
    LogDensityTerms,
    empirical_log_density,
    growth_exponent,
    height_moments,
    last_passage,
    log_density_equation,
    multinomial_variance,
    roughness,
    structure_factor,
)

# A handful of float64 operations: a few units of 1.1e-16, with a margin of 100.
ROUNDING = 1e-13

seeds = st.integers(0, 2**32 - 1)


def assert_mean(samples, expected):
    """Check a mean over axis 0 within four of its standard errors."""
    samples = np.asarray(samples)
    error = samples.std(axis=0) / math.sqrt(len(samples))
    assert np.all(error > 0)
    deviation = np.abs(samples.mean(axis=0) - expected) / error
    assert deviation.max() < 4, deviation


# --- the equation of a log-density: Gaussian solutions ------------------------------

SLOPE, DIFFUSION = 1.4, 0.5
"""An Ornstein-Uhlenbeck process, from N(1.2, 0.2)."""


def quadratic(w):
    return SLOPE * (w**2).sum(axis=1) / 2


def moving(t):
    """Mean and variance, and their derivatives."""
    mean = 1.2 * np.exp(-SLOPE * t)
    limit = DIFFUSION / SLOPE
    variance = limit + (0.2 - limit) * np.exp(-2 * SLOPE * t)
    return mean, variance, -SLOPE * mean, 2 * DIFFUSION - 2 * SLOPE * variance


def normal_at(w, t):
    mean, variance, *_ = moving(t)
    return np.exp(-((w - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)


def rate_at(w, t):
    mean, variance, mean_rate, variance_rate = moving(t)
    z = w - mean
    spreading = (z**2 / variance - 1) * variance_rate / (2 * variance)
    return z * mean_rate / variance + spreading


def ornstein_uhlenbeck(times):
    grid = Grid(-3, 3, 40)
    w = grid.centers[0]
    return grid, w, np.array([normal_at(w, t) for t in times])


def test_terms_of_a_gaussian_one_by_one():
    times = [0.1, 0.2, 0.35, 0.6]
    grid, w, p = ornstein_uhlenbeck(times)
    terms = log_density_equation(grid, p, times, quadratic, DIFFUSION)
    inner = w[1:-1]
    for m, t in enumerate(times[1:-1]):
        mean, variance, *_ = moving(t)
        z = inner - mean
        expected = {
            "density": normal_at(inner, t),
            "smoothing": np.full(len(z), -DIFFUSION / variance),
            "growth": DIFFUSION * (z / variance) ** 2,
            "advection": -SLOPE * inner * z / variance,
            "source": np.full(len(z), SLOPE),
        }
        # Differences of parabolas are exact: heights of 100 err by 1e-14, and
        # second differences divide that by 0.15^2.
        for name, values in expected.items():
            found = getattr(terms, name)[m]
            np.testing.assert_allclose(found, values, rtol=1e-11, atol=1e-11)
    assert all(term.shape == (2, 38) for term in terms)
    parts = terms.smoothing + terms.growth + terms.advection + terms.source
    np.testing.assert_allclose(terms.residual, terms.rate - parts, atol=1e-11)
    np.testing.assert_allclose(
        terms.relative_residual,
        np.sum(terms.density * np.abs(terms.residual))
        / np.sum(terms.density * sum(np.abs(term) for term in terms[1:])),
        rtol=ROUNDING,
    )


@pytest.mark.parametrize("ratio", [1.0, 2.5])
def test_rate_is_of_second_order_also_at_unequal_times(ratio):
    t, errors = 0.4, []
    for step in (0.04, 0.02, 0.01):
        times = [t - step, t, t + ratio * step]
        grid, w, p = ornstein_uhlenbeck(times)
        terms = log_density_equation(grid, p, times, quadratic, DIFFUSION)
        errors.append(np.abs(terms.rate[0] - rate_at(w[1:-1], t)).max())
        # All else is exact, so that this is the residual, too.
        found = np.abs(terms.residual).max()
        assert found == pytest.approx(errors[-1], abs=1e-10)
    orders = [math.log2(a / b) for a, b in pairwise(errors)]
    # The next order adds (ratio - 1) step times a few: 0.1.
    assert orders == pytest.approx([2, 2], abs=0.15)


def test_two_coupled_weights():
    # dm/dt = -H m, C = E + exp(-H t) (C0 - E) exp(-H^T t) with H E + E H = 2 D.
    H, D = np.array([[1.5, 0.5], [0.5, 1.0]]), np.array([0.3, 0.7])
    # Columns of the Lyapunov equation as one system.
    both = np.kron(H, np.eye(2)) + np.kron(np.eye(2), H)
    E = np.linalg.solve(both, 2 * np.diag(D).ravel()).reshape(2, 2)
    grid = Grid([-2, -1], [2, 1.5], [16, 13])
    w = grid.points

    def normal(t):
        decay = expm(-H * t)
        C = E + decay @ (0.2 * np.eye(2) - E) @ decay.T
        z = w - decay @ [0.5, -0.3]
        return stats.multivariate_normal(np.zeros(2), C).pdf(z).reshape(grid.shape)

    def loss(w):
        return np.einsum("ni,ij,nj->n", w, H, w) / 2

    sizes = []
    for step in (0.02, 0.01):
        times = [0.3 - step, 0.3, 0.3 + step]
        p = np.array([normal(t) for t in times])
        terms = log_density_equation(grid, p, times, loss, D)
        assert terms.rate.shape == (1, 14, 11)
        sizes.append(np.abs(terms.residual).max())
    # Exact in space; of second order in time.
    assert math.log2(sizes[0] / sizes[1]) == pytest.approx(2, abs=0.1)
    assert sizes[1] < 1e-2
    np.testing.assert_allclose(terms.source, np.trace(H), atol=1e-10)


# --- computed densities -------------------------------------------------------------


def double_well(w):
    return ((w**2 - 1) ** 2).sum(axis=1) / 4


def bent_diffusion(w):
    return 0.3 + 0.1 * w**2


def two_diffusions(w):
    """Each depends on both weights."""
    return np.stack(
        [0.3 + 0.1 * np.cos(w[:, 1] + w[:, 0]), 0.4 + 0.1 * np.sin(w[:, 0])], 1
    )


def tilted_well(w):
    return double_well(w) + 0.3 * w.prod(axis=1)


PROBLEMS = {
    "a number": (double_well, 0.3, 1, (50, 100, 200)),
    "depends on the weight": (double_well, bent_diffusion, 1, (50, 100, 200)),
    "one per axis": (tilted_well, [0.3, 0.5], 2, (24, 48)),
    "two that depend on both weights": (tilted_well, two_diffusions, 2, (24, 48)),
}


def computed(name, cells, unequal=False):
    """Densities at three times whose distance falls with the width of a cell."""
    loss, diffusion, d, _ = PROBLEMS[name]
    grid = Grid([-3.4] * d, [3.4] * d, cells)
    step = 1.0 / cells
    times = 0.5 + np.array([-step, 0, 2 * step if unequal else step])
    # A start that vanishes nowhere: there, the scheme has digits for a logarithm.
    start = gaussian(grid, 0.2, 0.8)
    start /= start.sum() * grid.cell_volume
    equation = FokkerPlanck(grid, diffusion, potential=loss)
    p = equation.evolve(start, times, dt=step / 4)
    return grid, p, times, loss, diffusion


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("unequal", [False, True])
def test_computed_densities_obey_it_to_second_order(name, unequal):
    cells = PROBLEMS[name][-1]
    sizes = [
        log_density_equation(*computed(name, n, unequal)).relative_residual
        for n in cells
    ]
    orders = [math.log2(a / b) for a, b in pairwise(sizes)]
    # Of a mean of sizes; the next term is smaller by a tenth on the coarsest grid.
    assert orders == pytest.approx([2] * len(orders), abs=0.25)
    assert sizes[-1] < 0.02


WRONG = {
    "loss": lambda w: 1.5 * double_well(w),
    "tilt": lambda w: double_well(w) + 0.5 * w[:, 0],
    "colder": 0.15,
    "noise that depends on the weight": bent_diffusion,
}


@pytest.mark.parametrize("name", WRONG)
def test_another_equation_is_not_obeyed(name):
    grid, p, times, loss, diffusion = computed("a number", 100)
    right = log_density_equation(grid, p, times, loss, diffusion)
    if name in ("loss", "tilt"):
        loss = WRONG[name]
    else:
        diffusion = WRONG[name]
    wrong = log_density_equation(grid, p, times, loss, diffusion)
    assert right.relative_residual < 0.005
    # Terms change by 30 % and more, of a sum of sizes that partly cancel.
    assert wrong.relative_residual > 0.05


def test_a_density_at_rest_has_no_rate():
    grid = Grid(-2, 2, 200)
    p = np.tile(np.exp(-double_well(grid.points) / 0.3), (3, 1))
    terms = log_density_equation(grid, p, [0, 1, 2], double_well, 0.3)
    assert np.all(terms.rate == 0)
    # h = -L / T on the same cells: smoothing and source cancel, and growth and
    # advection.
    np.testing.assert_allclose(terms.smoothing, -terms.source, atol=1e-9)
    np.testing.assert_allclose(terms.growth, -terms.advection, atol=1e-9)
    assert np.abs(terms.source).max() > 1


def test_no_digits_no_number():
    times = [0.1, 0.2, 0.3, 0.4, 0.5]
    grid, _, p = ornstein_uhlenbeck(times)
    whole = log_density_equation(grid, p, times, quadratic, DIFFUSION)
    # Indices of inner times and cells are smaller by one.
    p[2, 9], p[2, 25] = 1e-281, -1e-3
    cut = log_density_equation(grid, p, times, quadratic, DIFFUSION)
    missing = np.zeros(cut.rate.shape, dtype=bool)
    for cell in (8, 24):
        missing[1, cell - 1 : cell + 2] = True
        missing[[0, 2], cell] = True
    np.testing.assert_array_equal(np.isnan(cut.residual), missing)
    np.testing.assert_array_equal(cut.residual[~missing], whole.residual[~missing])
    assert np.all(np.isfinite(cut.source))
    assert np.isfinite(cut.relative_residual)
    assert 0 < cut.relative_residual < 2 * whole.relative_residual
    p[2, 9] = p[2, 25] = 1e-279
    kept = log_density_equation(grid, p, times, quadratic, DIFFUSION)
    assert np.all(np.isfinite(kept.residual))


# --- moments ------------------------------------------------------------------------


def jackknife(heights, blocks):
    """Values without their bias, and errors, from scipy's moments of what is left."""

    def measured(h):
        return np.array([h.mean(), h.var(), stats.skew(h), stats.kurtosis(h)])

    parts = heights.reshape(blocks, -1)
    rest = np.array(
        [measured(np.delete(parts, b, axis=0).ravel()) for b in range(blocks)]
    )
    value = blocks * measured(heights.ravel()) - (blocks - 1) * rest.mean(axis=0)
    centred = rest - rest.mean(axis=0)
    return value, np.sqrt((blocks - 1) / blocks * (centred**2).sum(axis=0))


@settings(max_examples=40, deadline=None)
@given(seed=seeds, blocks=st.integers(2, 9), length=st.integers(4, 20))
def test_moments_are_a_jackknife_over_blocks(seed, blocks, length):
    h = 50 + np.random.default_rng(seed).gamma(2.0, size=blocks * length)
    values, errors = height_moments(h, blocks)
    expected, spread = jackknife(h, blocks)
    # Powers about the mean lose a digit or two of the kurtosis.
    np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(errors, spread, rtol=1e-9, atol=1e-9)


def test_each_height_a_block_is_textbook():
    h = np.random.default_rng(0).normal(size=50)
    values, errors = height_moments(h, 50)
    assert values.mean == pytest.approx(h.mean(), rel=1e-12)
    assert errors.mean == pytest.approx(h.std(ddof=1) / math.sqrt(50), rel=1e-12)
    # The bias is gone: the sum over n - 1.
    assert values.variance == pytest.approx(h.var(ddof=1), rel=1e-12)


def test_moments_of_independent_heights():
    law, n = stats.gamma(3.0), 2**17
    h = law.rvs(size=n, random_state=1)
    values, errors = height_moments(h, 128)
    exact = [float(x) for x in law.stats("mvsk")]
    assert np.all(np.abs(np.array(values) - exact) < 4 * np.array(errors))
    fourth = exact[1] ** 2 * (exact[3] + 2)
    told = [math.sqrt(exact[1] / n), math.sqrt(fourth / n)]
    # An error from 128 blocks has one of 1 / sqrt(256).
    np.testing.assert_allclose(errors[:2], told, rtol=4 / 16)


def test_errors_are_the_scatter_of_correlated_heights():
    # Sums over 8 neighbours, blocks of 256 sites: the error is too small by the part of
    # correlations that blocks cut, 4 in 256.
    rng, repetitions = np.random.default_rng(3), 400
    z = rng.exponential(size=(repetitions, 8192 + 7))
    sums = np.cumsum(np.pad(z, ((0, 0), (1, 0))), axis=1)
    h = sums[:, 8:] - sums[:, :-8]
    found = [height_moments(row, 32) for row in h]
    values, errors = np.moveaxis(np.array(found), 1, 0)
    ratio = np.sqrt((errors**2).mean(axis=0)) / values.std(axis=0)
    # 1 / sqrt(800) each; for skewness and kurtosis errors of heavy tails, twice that.
    assert np.all(np.abs(ratio - 1) < 4 / math.sqrt(800) * np.array([1, 1, 2, 2]))
    assert_mean(values, [8.0, 8.0, 2 / math.sqrt(8), 6 / 8])
    # Taken as independent, errors of the mean would be too small by sqrt(8).
    assert values[:, 0].std() > 2 * math.sqrt(8 / 8192)


@settings(max_examples=60, deadline=None)
@given(
    seed=seeds,
    shift=st.floats(-1e3, 1e3),
    scale=st.floats(1e-3, 1e3),
    sign=st.sampled_from([1, -1]),
)
def test_moments_move_and_stretch_with_the_heights(seed, shift, scale, sign):
    h = np.random.default_rng(seed).gamma(2.0, size=(4, 16))
    values, errors = height_moments(h, 8)
    moved, moved_errors = height_moments(shift + sign * scale * h, 8)
    # A shift by a million heights takes as many units of rounding.
    lost = 1e-14 * (1 + abs(shift) / scale) * 100
    unit = np.array([scale, scale**2, 1, 1])
    expected = np.array(values) * unit * [sign, 1, sign, 1] + [shift, 0, 0, 0]
    tolerance = lost * unit * (1 + np.abs(values))
    assert np.all(np.abs(np.array(moved) - expected) <= tolerance)
    assert np.all(np.abs(np.array(moved_errors) - errors * unit) <= tolerance)


def test_samples_are_cut_into_blocks_of_their_own():
    h = np.random.default_rng(0).normal(size=(3, 40))
    assert height_moments(h, 12) == height_moments(h.ravel(), 12)
    # Blocks of one sample each: only their order changes.
    one, other = height_moments(h, 3), height_moments(h[::-1], 3)
    np.testing.assert_allclose(one, other, rtol=1e-11)


# --- exponents ----------------------------------------------------------------------


@given(
    beta=st.floats(-2, 2),
    amplitude=st.floats(1e-3, 1e3),
    times=st.lists(st.floats(0.1, 1e3), min_size=3, max_size=8, unique=True),
    blocks=st.integers(0, 4).filter(lambda b: b != 1),
)
def test_power_laws_are_found(beta, amplitude, times, blocks):
    spread = np.ptp(np.log(times))
    if spread < 0.1:
        return
    variances = amplitude * np.array(times) ** (2 * beta)
    if blocks:
        variances = np.outer(np.arange(1, blocks + 1), variances)
    found = growth_exponent(times, variances)
    # Logarithms of up to 40 err by 1e-14, over a distance of 0.1.
    assert found.value == pytest.approx(beta, abs=1e-11)
    assert 0 <= found.error < 1e-6


def test_error_of_a_fit_is_that_of_least_squares():
    rng, times = np.random.default_rng(0), np.geomspace(1, 100, 9)
    variances = times**0.6 * np.exp(0.1 * rng.normal(size=9))
    found = growth_exponent(times, variances)
    line, covariance = np.polyfit(np.log(times), np.log(variances), 1, cov=True)
    assert found.value == pytest.approx(line[0] / 2, rel=1e-11)
    assert found.error == pytest.approx(math.sqrt(covariance[0, 0]) / 2, rel=1e-11)


def test_error_from_blocks_is_a_jackknife():
    rng, times = np.random.default_rng(1), np.geomspace(2, 50, 6)
    v = rng.gamma(5.0, size=(7, 6)) * times**0.5

    def slope(variances):
        return np.polyfit(np.log(times), np.log(variances), 1)[0] / 2

    rest = np.array([slope(np.delete(v, b, axis=0).mean(axis=0)) for b in range(7)])
    found = growth_exponent(times, v)
    assert found.value == pytest.approx(slope(v.mean(axis=0)), rel=1e-11)
    spread = math.sqrt(6 / 7 * np.sum((rest - rest.mean()) ** 2))
    assert found.error == pytest.approx(spread, rel=1e-10)


@pytest.mark.parametrize("correlated", [False, True])
def test_errors_of_exponents_are_their_scatter(correlated):
    rng, times, repetitions = np.random.default_rng(2), np.geomspace(1, 64, 7), 600
    noise = rng.normal(size=(repetitions, 16, 7))
    if correlated:
        # A walk in time: the fit alone would take it for independent.
        noise = np.cumsum(noise, axis=2)
    v = times ** (2 / 3) * np.exp(0.1 * noise)
    if not correlated:
        v = v[:, 0]
    found = np.array([growth_exponent(times, each) for each in v])
    scatter = found[:, 0].std()
    # 1 / sqrt(2 repetitions), four times, and 1 / 16 for the logarithm of a mean.
    assert math.sqrt((found[:, 1] ** 2).mean()) == pytest.approx(scatter, rel=0.15)
    if not correlated:
        assert_mean(found[:, 0], 1 / 3)
    within = np.abs(found[:, 0] - found[:, 0].mean()) < found[:, 1]
    # Student's law with 5 degrees of freedom, or 15: 64 or 67 % within one error.
    assert within.mean() == pytest.approx(0.65, abs=4 * 0.48 / math.sqrt(600))


# --- roughness and modes ------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    seed=seeds,
    width=st.integers(2, 17),
    batch=st.lists(st.integers(1, 3), max_size=2),
)
def test_modes_add_up_to_the_squared_width(seed, width, batch):
    h = 3 + np.random.default_rng(seed).normal(size=(*batch, width))
    k, S = structure_factor(h)
    np.testing.assert_allclose(k, 2 * np.pi * np.arange(1, width // 2 + 1) / width)
    # Positive and negative k; pi is its own negative.
    both = np.where(np.isclose(k, np.pi), 1, 2)
    squared = roughness(h)
    assert squared.shape == tuple(batch)
    assert (both * S).sum() / width == pytest.approx(squared.mean(), rel=1e-12)
    np.testing.assert_allclose(
        squared, (h**2).mean(axis=-1) - h.mean(axis=-1) ** 2, rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("mode", [1, 3, 8])
def test_a_cosine_is_one_mode(mode):
    L, height = 16, 1.5
    h = 7 + height * np.cos(2 * np.pi * mode * np.arange(L) / L + 0.4)
    _, S = structure_factor(h)
    expected = np.zeros(L // 2)
    # |sum|^2 / L is height^2 L / 4; at pi both halves meet.
    expected[mode - 1] = height**2 * L / 4
    if mode == L // 2:
        expected[-1] = height**2 * L * math.cos(0.4) ** 2
    np.testing.assert_allclose(S, expected, atol=1e-12)


def slope_variance(L):
    """Of one increment of a saturated ring of last passage.

    Increments are differences of exponentials of mean 2 with the sum zero. Their
    characteristic function is f = 1 / (1 + 4 q^2), and the variance under the
    condition is the integral of -f'' f^(L - 1) over that of f^L.
    """
    q = np.linspace(0, 20, 200_001)
    f = 1 / (1 + 4 * q**2)
    bent = (8 - 96 * q**2) * f**3
    return np.trapezoid(bent * f ** (L - 1), q) / np.trapezoid(f**L, q)


RINGS = {8: 150, 16: 400, 32: 1200, 64: 3000}
"""Steps after which a ring of that width is saturated: six times its width^1.5."""


@pytest.fixture(scope="module")
def rings():
    return {
        L: last_passage(L, steps, 1, samples=1000)[:, 0] for L, steps in RINGS.items()
    }


@pytest.mark.parametrize("L", RINGS)
def test_saturated_rings_are_bridges(rings, L):
    # L increments of variance V and covariance -V / (L - 1) each: modes V L / (L - 1)
    # over 4 sin^2(k / 2), and a squared width of V (L + 1) / 12.
    V, h = slope_variance(L), rings[L]
    assert_mean((np.diff(h, axis=1) ** 2).mean(axis=1), V)
    assert_mean(roughness(h), V * (L + 1) / 12)
    k, S = structure_factor(h)
    each = np.array([structure_factor(row)[1] for row in h])
    assert_mean(each, V * L / (L - 1) / (4 * np.sin(k / 2) ** 2))
    np.testing.assert_allclose(S, each.mean(axis=0), rtol=1e-12)


def test_roughness_of_saturated_rings_grows_as_length(rings):
    # On rings this short V still grows with L; 1/2 is left by 0.026 for that.
    lengths = [16, 32, 64]
    squared = np.array([roughness(rings[L]) for L in lengths]).T
    alpha = growth_exponent(lengths, squared.reshape(20, 50, 3).mean(axis=1))
    exact = [slope_variance(L) * (L + 1) for L in lengths]
    expected = growth_exponent(lengths, exact).value
    assert abs(expected - 1 / 2) < 0.03
    assert abs(alpha.value - expected) < 4 * alpha.error < 0.08


def test_modes_of_a_long_bridge_fall_as_the_square():
    # Slope -1 - 2 alpha of log S over log k; the sine is k within 1 % below 0.5.
    rng, L = np.random.default_rng(4), 512
    steps = rng.normal(size=(400, L))
    h = np.cumsum(steps - steps.mean(axis=1, keepdims=True), axis=1)
    k, S = structure_factor(h)
    low = k < 0.5
    alpha = -(np.polyfit(np.log(k[low]), np.log(S[low]), 1)[0] + 1) / 2
    assert abs(alpha - 1 / 2) < 0.03


# --- independent networks -----------------------------------------------------------


def test_empirical_log_density_is_numpys():
    rng = np.random.default_rng(0)
    walkers, edges = rng.normal(size=(3, 200)), [-1.0, -0.2, 0.1, 1.5, 8.0, 9.0]
    h = empirical_log_density(walkers, edges)
    assert h.shape == (3, 5)
    for cloud, found in zip(walkers, h, strict=True):
        density = np.histogram(cloud, edges, density=True)[0]
        inside = np.mean((cloud >= edges[0]) & (cloud <= edges[-1]))
        np.testing.assert_allclose(np.exp(found), density * inside, rtol=1e-12)
    # The last bin is empty: density 0, and no warning.
    assert np.all(h[:, -1] == -np.inf)
    assert np.all(np.isfinite(h[:, :3]))


def test_heights_of_independent_networks_scatter_as_counts():
    # Ornstein-Uhlenbeck, exact from time to time, N(2, 0.1) at the start.
    rng, N, clouds = np.random.default_rng(5), 2000, 1000
    edges, times = np.linspace(-1.5, 1.5, 7), np.array([0.5, 1.0, 2.0, 4.0])
    w = rng.normal(2.0, math.sqrt(0.1), size=(clouds, N))
    found, told, now = [], [], 0.0
    for t in times:
        decay = math.exp(-(t - now))
        w = decay * w + math.sqrt(1 - decay**2) * rng.normal(size=w.shape)
        now = t
        mean = 2 * math.exp(-t)
        spread = math.sqrt(1 - 0.9 * math.exp(-2 * t))
        P = np.diff(stats.norm.cdf(edges, mean, spread))
        seen = N * P > 40
        h = empirical_log_density(w, edges)[:, seen]
        expected = multinomial_variance(P[seen], N)
        # Corrections are 3 / (2 N P) of it or so.
        correction = 2 / (N * P[seen])
        error = 4 * math.sqrt(2 / clouds)
        assert np.all(np.abs(h.var(axis=0) / expected - 1) < error + correction)
        found.append(h.var(axis=0)[-1])
        told.append(expected[-1])
    # Where the density has come to rest, it stays as rough as it is: exponent 0.
    late = growth_exponent(times[-3:], np.array(found)[-3:] / np.array(told)[-3:])
    assert abs(late.value) < 0.05
    assert late.error < 0.05


@given(P=st.floats(1e-9, 1.0), networks=st.integers(1, 10**9))
def test_variance_of_counts(P, networks):
    # N P (1 - P) of the count, over the square of its mean; in whole numbers.
    exact = Fraction(P)
    mean = networks * exact
    expected = float(mean * (1 - exact) / mean**2)
    found = multinomial_variance(P, networks)
    assert found.shape == ()
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-300)


def test_variance_of_counts_keeps_the_shape():
    P = np.array([[0.5, 1.0], [0.1, 0.25]])
    np.testing.assert_allclose(
        multinomial_variance(P, 10), [[0.1, 0.0], [0.9, 0.3]], rtol=1e-14
    )


# --- arguments ----------------------------------------------------------------------

OU_TIMES = [0.1, 0.2, 0.3]
GRID, _, DENSITIES = ornstein_uhlenbeck(OU_TIMES)
GOOD = {
    log_density_equation: {
        "grid": GRID,
        "densities": DENSITIES,
        "times": OU_TIMES,
        "potential": quadratic,
        "diffusion": DIFFUSION,
    },
    height_moments: {"heights": np.arange(12.0), "blocks": 4},
    growth_exponent: {"times": [1.0, 2.0, 4.0], "variances": [1.0, 2.0, 3.0]},
    roughness: {"heights": [1.0, 2.0]},
    structure_factor: {"heights": [1.0, 2.0]},
    empirical_log_density: {"walkers": [[0.5, 0.7]], "edges": [0.0, 1.0]},
    multinomial_variance: {"probability": 0.5, "networks": 3},
}
BAD = [
    (log_density_equation, "densities", DENSITIES[:2], r"shape \(m, 40\) with m >= 3"),
    (log_density_equation, "densities", DENSITIES[:, 1:], r"shape \(m, 40\)"),
    (log_density_equation, "times", [0.1, 0.1, 0.2], ">= 0 and increasing"),
    (log_density_equation, "times", [-0.1, 0.1, 0.2], ">= 0 and increasing"),
    (log_density_equation, "diffusion", -1.0, ">= 0"),
    (log_density_equation, "diffusion", [1.0, 2.0], "a finite number or 1 of them"),
    (height_moments, "heights", np.zeros((2, 2, 2)), "finite and of shape"),
    (height_moments, "heights", [], "finite and of shape"),
    (height_moments, "heights", 1.0, "finite and of shape"),
    (height_moments, "heights", [1.0, np.nan, 2.0, 3.0], "finite and of shape"),
    (height_moments, "blocks", 1, "an integer >= 2"),
    (height_moments, "blocks", 2.0, "an integer >= 2"),
    (growth_exponent, "times", [0.0, 1.0, 2.0], "finite and > 0"),
    (growth_exponent, "times", [1.0, 1.0, 1.0], "shape .* two different values"),
    (growth_exponent, "times", [[1.0, 2.0, 3.0]], "shape .* two different values"),
    (growth_exponent, "variances", [1.0, 0.0, 2.0], "finite and > 0"),
    (growth_exponent, "variances", [1.0, np.inf, 2.0], "finite and > 0"),
    (growth_exponent, "variances", [1.0, 2.0], r"shape \(3,\) or \(blocks, 3\)"),
    (growth_exponent, "variances", 1.0, r"shape \(3,\) or \(blocks, 3\)"),
    (growth_exponent, "variances", np.ones((2, 2, 3)), r"shape \(3,\)"),
    (growth_exponent, "variances", [[1.0, 2.0, 3.0]], "at least 3, or 2 blocks"),
    (roughness, "heights", 1.0, r"finite, shape \(..., L\) with L >= 1"),
    (roughness, "heights", np.zeros((2, 0)), r"finite, shape \(..., L\) with L >= 1"),
    (roughness, "heights", [np.inf, 1.0], r"finite, shape \(..., L\) with L >= 1"),
    (structure_factor, "heights", [1.0], r"finite, shape \(..., L\) with L >= 2"),
    (structure_factor, "heights", [1.0, np.nan], r"finite, shape"),
    (empirical_log_density, "walkers", [0.5, 0.7], "finite and of shape"),
    (empirical_log_density, "walkers", [[0.5, np.nan]], "finite and of shape"),
    (empirical_log_density, "edges", [0.0, 0.0], "finite and increasing"),
    (empirical_log_density, "edges", [0.0], "at least two"),
    (multinomial_variance, "probability", 0.0, r"in \(0, 1\]"),
    (multinomial_variance, "probability", [0.5, 1.1], r"in \(0, 1\]"),
    (multinomial_variance, "probability", math.nan, r"in \(0, 1\]"),
    (multinomial_variance, "networks", 0, "an integer >= 1"),
    (multinomial_variance, "networks", 2.5, "an integer >= 1"),
]


@pytest.mark.parametrize(
    ("function", "name", "value", "allowed"),
    BAD,
    ids=[f"{case[0].__name__}-{case[1]}-{i}" for i, case in enumerate(BAD)],
)
def test_bad_arguments_are_named(function, name, value, allowed):
    function(**GOOD[function])
    with pytest.raises(ValueError, match=rf"(?s)^{name} must be .*got |^{name} must "):
        function(**{**GOOD[function], name: value})
    with pytest.raises(ValueError, match=rf"(?s){allowed}.*, got "):
        function(**{**GOOD[function], name: value})


def test_two_times_or_variances_have_no_error():
    with pytest.raises(ValueError, match="variances must be at least 3, or 2 blocks"):
        growth_exponent([1.0, 2.0], [1.0, 2.0])
    # Two blocks do.
    assert growth_exponent([1.0, 2.0], [[1.0, 2.0], [1.0, 3.0]]).error > 0
    with pytest.raises(ValueError, match=r"densities .* m >= 3 times, got .* 2 times"):
        log_density_equation(GRID, DENSITIES[:2], [0.1, 0.2], quadratic, DIFFUSION)


def test_grids_without_inner_cells_are_refused():
    grid = Grid([-1, -1], [1, 1], [5, 2])
    with pytest.raises(ValueError, match=r"^grid must have >= 3 cells .*\(5, 2\)"):
        log_density_equation(grid, np.ones((3, 5, 2)), OU_TIMES, double_well, 1.0)


def test_full_tensors_are_refused():
    grid = Grid([-1, -1], [1, 1], 4)
    tensor = np.array([[1.0, 0.2], [0.2, 1.0]])
    with pytest.raises(ValueError, match=r"^diffusion must be diagonal, got a full"):
        log_density_equation(
            grid,
            np.ones((3, 4, 4)),
            OU_TIMES,
            double_well,
            lambda w: np.broadcast_to(tensor, (len(w), 2, 2)),
        )


def test_functions_must_keep_the_shape():
    with pytest.raises(ValueError, match=r"^potential must return shape"):
        log_density_equation(**{**GOOD[log_density_equation], "potential": np.negative})


@pytest.mark.parametrize(
    "heights", [np.zeros(12), np.full(12, 0.3), [0.0] * 9 + [1.0, 2.0, 3.0]]
)
def test_heights_must_differ_also_without_one_block(heights):
    with pytest.raises(ValueError, match=r"^heights must not all be equal"):
        height_moments(heights, 4)


def test_no_ring_has_no_spectrum():
    with pytest.raises(ValueError, match=r"^heights must hold at least one ring"):
        structure_factor(np.zeros((0, 5)))


def test_a_density_below_all_digits_has_no_residual():
    unknown = LogDensityTerms(*(np.full((1, 3), np.nan) for _ in range(6)))
    with pytest.raises(ValueError, match=r"^densities must be above 1e-280"):
        _ = unknown.relative_residual


@pytest.mark.parametrize("blocks", [5, 24])
def test_blocks_must_divide_the_heights(blocks):
    message = re.escape(f"blocks must divide the number of heights, 12, got {blocks}")
    with pytest.raises(ValueError, match=message):
        height_moments(np.arange(12.0), blocks)
