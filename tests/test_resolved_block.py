"""The resolved block against automatic differentiation, brute force and exact laws.

Two limits are exact. With one pair of data SGD is deterministic: record and replay are
the same descent. With a block that the decoder ignores (G = 0) and a
tiny code z its drift and noise are constant, and the density is a moving Gaussian.
Statistical tolerances are four standard errors, with fixed seeds.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fpbook.deep_autoencoder import (
    Network,
    Record,
    Rest,
    network_gradient,
    record,
    retrain_whole,
)
from fpbook.fokker_planck import Grid, MassAtWallWarning, gaussian
from fpbook.langevin import kolmogorov_smirnov
from fpbook.resolved_block import (
    block_covariance,
    block_gradient,
    block_loss,
    evolve_block,
    marginal,
    retrain_block,
    row_marginal,
)

# Some ten operations on numbers of order one: 1.1e-16 each, with a margin of 100.
ROUNDING = 1e-13
D, HIDDEN, N = 6, 3, 11
seeds = st.integers(0, 2**32 - 1)


def pairs(seed=0, n=N):
    rng = np.random.default_rng(seed)
    y = rng.standard_normal((n, D))
    return y + rng.standard_normal((n, D)), y


def network():
    rng = np.random.default_rng(1)
    shapes = ((HIDDEN, D), (2, HIDDEN), (2, 2), (HIDDEN, 2), (D, HIDDEN))
    return Network(*(0.7 * rng.standard_normal(shape) for shape in shapes))


def rest_of(seed, n=N):
    """Any rest: correlated, and with a decoder that mixes the two rows."""
    rng = np.random.default_rng(seed)
    U = rng.standard_normal((D, 2))
    return Rest(rng.uniform(-1, 1, (n, 2)), rng.standard_normal((n, 2)), U.T @ U)


def run(seed=0, steps=6, rate=0.2, batch=2, **options):
    return record(*pairs(), network(), rate, batch, steps, seed, **options)


def torch_loss(weights, x, y):
    W1, W2, W, W4, W5 = weights
    code = torch.tanh(torch.tanh(torch.tanh(x @ W1.T) @ W2.T) @ W.T)
    return ((code @ W4.T @ W5.T - y) ** 2).sum() / (2 * len(x))


# --- the block at one instant -------------------------------------------------------


def test_block_loss_is_the_loss_of_the_network_without_its_constant():
    x, y = pairs()
    history = run()
    start = history.start
    for W in np.random.default_rng(2).standard_normal((5, 2, 2)):
        weights = [torch.tensor(w) for w in start._replace(W=W)]
        whole = float(torch_loss(weights, torch.tensor(x), torch.tensor(y)))
        ours = block_loss(W.reshape(1, 4), history.rests[0])[0]
        assert ours + (y**2).sum() / (2 * N) == pytest.approx(whole, abs=ROUNDING)
        slope = network_gradient(start._replace(W=W), x, y).W.ravel()
        np.testing.assert_allclose(
            block_gradient(W.reshape(1, 4), history.rests[0])[0], slope, atol=ROUNDING
        )


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_block_gradient_and_covariance_are_those_of_the_samples(seed):
    rest = rest_of(seed)
    w = np.random.default_rng(seed).standard_normal((5, 4))
    W = torch.tensor(w.reshape(-1, 2, 2), requires_grad=True)
    z, b, G = (torch.tensor(part) for part in rest)
    response = torch.tanh(torch.einsum("mab,nb->mna", W, z))
    losses = torch.einsum("mna,ab,mnb->mn", response, G, response) / 2 - (
        response * b
    ).sum(-1)
    scale = 1e-12 * max(1.0, np.abs(rest.G).max()) ** 2
    np.testing.assert_allclose(
        block_loss(w, rest), losses.mean(1).detach(), rtol=0, atol=scale
    )
    samples = np.stack(
        [
            torch.autograd.grad(losses[:, n].sum(), W, retain_graph=True)[0].numpy()
            for n in range(N)
        ]
    ).reshape(N, 5, 4)
    np.testing.assert_allclose(
        block_gradient(w, rest), samples.mean(axis=0), rtol=0, atol=scale
    )
    C = block_covariance(w, rest)
    for m in range(5):
        direct = np.cov(samples[:, m].T, bias=True)
        np.testing.assert_allclose(C[m], direct, rtol=0, atol=scale)


@pytest.mark.parametrize("function", [block_loss, block_gradient, block_covariance])
def test_tensor_grids_give_the_values_of_single_points(function):
    grid = Grid([-1, -1.2, -0.8, -1], [1, 1, 1.1, 0.9], [3, 4, 2, 5])
    shuffled = np.random.default_rng(0).permutation(len(grid.points))
    rest = rest_of(4)
    np.testing.assert_allclose(
        function(grid.points, rest)[shuffled],
        function(grid.points[shuffled], rest),
        rtol=0,
        atol=1e-12,
    )


def test_points_that_only_begin_like_a_tensor_product_are_no_grid():
    grid = Grid([-1] * 4, [1] * 4, 2)
    points = grid.points
    points[-1, 3] += 0.1
    rest = rest_of(5)
    alone = [block_loss(point[None], rest)[0] for point in points]
    np.testing.assert_allclose(block_loss(points, rest), alone, atol=ROUNDING)
    np.testing.assert_allclose(block_loss(points[:-1], rest), alone[:-1], atol=ROUNDING)


def test_many_points_are_evaluated_in_portions(monkeypatch):
    w = np.random.default_rng(0).standard_normal((50, 4))
    whole = block_loss(w, rest_of(6))
    monkeypatch.setattr("fpbook.resolved_block.NUMBERS_AT_ONCE", 7 * N)
    np.testing.assert_allclose(block_loss(w, rest_of(6)), whole, atol=ROUNDING)


# --- the density: exact limits ------------------------------------------------------

TINY, RATE = 1e-5, 0.2


def moving(seed, steps, n=40, coupling=0.4):
    """Rests of constant drift and noise: G = 0 and z so small that tanh is linear."""
    rng = np.random.default_rng(seed)
    z, b0 = rng.standard_normal((2, n, 2))
    z[:, 1] += coupling * z[:, 0]
    b0[:, 1] -= coupling * b0[:, 0]
    rests = []
    for _ in range(steps):
        b = b0 + 0.5 * rng.standard_normal((n, 2)) + 0.1
        rests.append(Rest(TINY * z, b / TINY, np.zeros((2, 2))))
    path = np.zeros((steps, 4))
    return Record(network(), rests, path, RATE, 1.0, 8)


def moments(density, grid):
    mass = density.ravel() * grid.cell_volume
    mean = mass @ grid.points
    centred = grid.points - mean
    return mean, (mass[:, None] * centred).T @ centred


def mean_rest(rests):
    return Rest(*(sum(parts) / len(rests) for parts in zip(*rests, strict=True)))


def expected_moments(rests, time, grid, start, noise):
    """Mean and covariance of the chain: drift and mixed diffusion are exact.

    The rates of Scharfetter and Gummel make D z coth(z / 2) of 2 D, z = h a / D.
    """
    mean, covariance = np.zeros(4), start.copy()
    origin = np.zeros((1, 4))
    for rest in rests:
        a = -block_gradient(origin, rest)[0]
        diffusion = block_covariance(origin, rest)[0] * RATE / (2 * 8)
        rate = 2 * diffusion * (noise == "full")
        own = np.diag(diffusion)
        z = np.array(grid.spacing) * a / own
        np.fill_diagonal(rate, own * z / np.tanh(z / 2))
        mean = mean + a * time
        covariance = covariance + rate * time
    return mean, covariance


@pytest.mark.parametrize("noise", ["full", "diagonal"])
def test_constant_drift_and_noise_move_a_gaussian(noise):
    history = moving(0, 7)
    grid = Grid([-3.7] * 4, [3.7] * 4, [24, 25, 24, 26])
    start = gaussian(grid, 0.0, 0.4)
    start /= start.sum() * grid.cell_volume
    # Two slices of three steps; what the block sees at the end moves nothing.
    seen = [mean_rest(history.rests[:3]), mean_rest(history.rests[3:6])]
    result = evolve_block(start, grid, history, 2, substeps=6, noise=noise)
    assert result.shape == (3, *grid.shape)
    np.testing.assert_array_equal(result[0], start)
    _, initial = moments(start, grid)
    for j in (1, 2):
        mean, covariance = expected_moments(seen[:j], 3 * RATE, grid, initial, noise)
        found_mean, found = moments(result[j], grid)
        # What leaves through the walls, 5 standard deviations away, stays inside.
        np.testing.assert_allclose(found_mean, mean, rtol=0, atol=1e-5)
        # On the diagonal the two smoothing steps add up to a^2 dt^2.
        gap = np.abs(found - covariance)
        assert np.diag(gap).max() < 1e-3
        np.fill_diagonal(gap, 0)
        assert gap.max() < 2e-4
        assert result[j].sum() * grid.cell_volume == pytest.approx(1, abs=1e-12)
        mixed = np.abs(covariance - np.diag(np.diag(covariance))).max()
        assert (mixed > 0.01) == (noise == "full")  # fifty times the tolerance


@pytest.mark.parametrize("row", [0, 1])
def test_one_row_moves_with_the_moments_of_its_two_entries(row):
    history = moving(1, 4)
    own = slice(2 * row, 2 * row + 2)
    grid = Grid([-3.2] * 2, [3.2] * 2, 128)
    start = gaussian(grid, 0.0, 0.4)
    start /= start.sum() * grid.cell_volume
    result = evolve_block(start, grid, history, 1, substeps=10, row=row)
    rest = mean_rest(history.rests[:3])
    drift = -block_gradient(np.zeros((1, 4)), rest)[0, own]
    diffusion = block_covariance(np.zeros((1, 4)), rest)[0, own, own] * RATE / 16
    mean, covariance = moments(result[1], grid)
    np.testing.assert_allclose(mean, 3 * RATE * drift, rtol=0, atol=1e-4)
    _, initial = moments(start, grid)
    # oblique hops are longer than cells: errors h^2 a^2 / (6 D) t of 2e-3
    np.testing.assert_allclose(
        covariance, initial + 6 * RATE * diffusion, rtol=0, atol=4e-3
    )


def nonlinear(steps, n=60, coupling=0.0):
    rng = np.random.default_rng(3)
    z = rng.uniform(-1, 1, (n, 2))
    z[:, 1] += 0.4 * z[:, 0]
    b = 0.9 * np.tanh(1.2 * z) + 2.0 * rng.standard_normal((n, 2))
    G = np.array([[1.0, coupling], [coupling, 0.8]])
    path = np.tile([0.8, 0.1, -0.1, 0.7], (steps + 1, 1))
    return Record(network(), [Rest(z, b, G)] * (steps + 1), path, 0.1, 1.0, 1)


def test_rows_that_the_decoder_keeps_apart_evolve_one_by_one():
    # G diagonal and independent noise: p(W) = p_1(row 1) p_2(row 2). The two solvers
    # share neither the splitting nor the factorisation.
    history = nonlinear(10)
    grid = Grid([-3.4] * 4, [3.6] * 4, 16)
    plane = Grid([-3.4] * 2, [3.6] * 2, 16)
    start, start2 = gaussian(grid, 0.1, 0.45), gaussian(plane, 0.1, 0.45)
    options = {"substeps": 40, "noise": "diagonal"}
    whole = evolve_block(
        start / start.sum() / grid.cell_volume, grid, history, 1, **options
    )[1]
    h2 = plane.cell_volume
    for row, others in ((0, (2, 3)), (1, (0, 1))):
        alone = evolve_block(
            start2 / start2.sum() / h2, plane, history, 1, row=row, **options
        )[1]
        # splitting: 2.0e-4 with half as many substeps, of second order
        assert np.abs(whole.sum(axis=others) * h2 - alone).sum() * h2 < 1e-4


def test_density_of_a_row_is_that_of_the_networks():
    history = nonlinear(40, coupling=0.3)
    grid = Grid([-3.6, -3.6], [4, 4], 76)
    density = gaussian(grid, 0.0, 0.45)
    density /= density.sum() * grid.cell_volume
    M = 20_000
    start = 0.45 * np.random.default_rng(1).standard_normal((M, 2))
    result = evolve_block(density, grid, history, 4, substeps=4, row=0)
    walkers = retrain_block(history, start, 2, row=0)[0]
    assert walkers.mean(axis=0)[0] > 0.3  # it did learn
    for axis in range(2):
        value, floor = kolmogorov_smirnov(
            walkers[:, axis], *marginal(result[-1], grid, axis, refine=4)
        )
        # floor 0.006; the rest is the learning rate: eta H / 2 = 2 % of the width
        assert value < floor + 0.01


def test_density_of_the_block_is_that_of_the_networks():
    history = nonlinear(20, coupling=0.3)
    M = 20_000
    start = 0.45 * np.random.default_rng(1).standard_normal((M, 4))
    walkers = retrain_block(history, start, 2)[0]
    covariance = np.cov(walkers.T)
    found = {}
    for cells in (14, 21):
        grid = Grid([-3.2] * 4, [3.4] * 4, cells)
        density = gaussian(grid, 0.0, 0.45)
        density /= density.sum() * grid.cell_volume
        result = evolve_block(density, grid, history, 1, substeps=8)
        found[cells] = moments(result[-1], grid)
    # errors of second order in the cells: extrapolate
    weight = 14**2 / (21**2 - 14**2)
    mean, spread = (
        fine + weight * (fine - coarse)
        for fine, coarse in zip(found[21], found[14], strict=True)
    )
    # 4 standard errors are 0.012; eta H / 2 adds 1 to 2 % of the shift 0.4
    np.testing.assert_allclose(walkers.mean(axis=0), mean, rtol=0, atol=0.02)
    np.testing.assert_allclose(covariance, spread, rtol=0, atol=0.012)


def test_a_small_box_warns():
    grid = Grid([-1.2] * 2, [3.0] * 2, 30)
    start = gaussian(grid, 1.0, 0.4)
    start /= start.sum() * grid.cell_volume
    with pytest.warns(MassAtWallWarning, match=r"cells at the walls at time 1\.2"):
        evolve_block(start, grid, moving(1, 7), 2, row=0)


@pytest.mark.filterwarnings("ignore::fpbook.fokker_planck.MassAtWallWarning")
def test_too_few_cells_for_correlated_noise_are_refused():
    grid = Grid([-2.6] * 4, [2.6] * 4, 8)
    start = gaussian(grid, 0.0, 0.4)
    start /= start.sum() * grid.cell_volume
    # One percent is allowed: a coupling of 3 leaves 0.008 below zero, one of 4 more.
    evolve_block(start, grid, moving(0, 2, coupling=3.0), 1, substeps=1)
    with pytest.raises(FloatingPointError, match=r"0\.026 below 0 at time 0\.2"):
        evolve_block(start, grid, moving(0, 2, coupling=4.0), 1, substeps=1)


# --- marginals ----------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1])
def test_marginal_of_a_product_is_its_factor(axis):
    grid = Grid([-3, -4], [3, 4], [20, 30])
    density = gaussian(grid, [0.2, -0.3], [0.5, 0.7])
    edges, found = marginal(density, grid, axis)
    line = Grid(edges[0], edges[-1], grid.shape[axis])
    mean, std = ((0.2, 0.5), (-0.3, 0.7))[axis]
    np.testing.assert_allclose(found, gaussian(line, mean, std), atol=1e-6)
    fine_edges, fine = marginal(density, grid, axis, refine=8)
    fine_line = Grid(edges[0], edges[-1], 8 * grid.shape[axis])
    np.testing.assert_allclose(fine_edges, fine_line.edges[0], atol=ROUNDING)
    cubic = np.abs(np.cumsum(fine - gaussian(fine_line, mean, std)))
    linear = np.abs(np.cumsum(np.repeat(found, 8) - gaussian(fine_line, mean, std)))
    # one cell is 0.6 or 0.4 standard deviations wide
    assert cubic.max() < 0.3 * linear.max()
    assert fine.min() >= 0


@pytest.mark.parametrize("row", [0, 1])
def test_row_marginal_of_a_product_is_the_row(row):
    grid = Grid([-3, -4, -2, -5], [3, 4, 3, 5], [10, 12, 14, 8])
    mean, std = np.array([0.2, -0.3, 0.1, 0.4]), np.array([0.5, 0.6, 0.4, 0.8])
    density = gaussian(grid, mean, std)
    density[0, 0, 0, 0] = -1e-9
    plane, found = row_marginal(density, grid, row)
    own = slice(2 * row, 2 * row + 2)
    assert plane.shape == grid.shape[own]
    np.testing.assert_array_equal(plane.centers[1], grid.centers[2 * row + 1])
    # what is outside the box is 1e-6
    np.testing.assert_allclose(found, gaussian(plane, mean[own], std[own]), atol=3e-6)
    assert found.sum() * plane.cell_volume == pytest.approx(1, abs=ROUNDING)


def test_negative_masses_are_cleared_or_refused():
    grid = Grid([-1], [1], 4)
    _, found = marginal(np.array([-0.01, 1.21, 0.8, 0.0]), grid, 0)
    np.testing.assert_allclose(found, 2 * np.array([0, 1.21, 0.8, 0]) / 2.01)
    with pytest.raises(ValueError, match="density must be >= 0, got a mass of 0"):
        marginal(np.array([-0.1, 1.3, 0.8, 0.0]), grid, 0)


# --- ensembles ----------------------------------------------------------------------


def test_with_one_pair_the_replay_repeats_the_record():
    x, y = pairs(n=1)
    history = record(x, y, network(), 0.1, 2, 8, 0, outer_ratio=0.5, skip=3)
    start = np.tile(history.blocks[0], (5, 1))
    snapshots = range(9)
    fair = retrain_block(history, start, 1, snapshots=snapshots)
    for m in range(5):
        np.testing.assert_allclose(fair[:, m], history.blocks, atol=ROUNDING)
    for row in (0, 1):
        own = slice(2 * row, 2 * row + 2)
        alone = retrain_block(history, start[:, own], 1, row=row, snapshots=snapshots)
        np.testing.assert_allclose(alone[:, 0], history.blocks[:, own], atol=ROUNDING)


def test_outer_layers_respond_to_the_block_from_the_second_step_on():
    x, y = pairs(n=1)
    history = record(x, y, network(), 0.1, 1, 2, 0)
    start = history.blocks[:1] + 0.5
    fair = retrain_block(history, start, 1, snapshots=[1, 2])
    whole = retrain_whole(history, x, y, start, 1, snapshots=[1, 2])
    np.testing.assert_allclose(fair[0], whole[0], atol=ROUNDING)
    assert np.abs(fair[1] - whole[1]).max() > 1e-4


@pytest.mark.parametrize("batch", [1, 3])
def test_one_step_has_the_mean_and_covariance_of_its_minibatch(batch):
    history = run(batch=batch, rate=0.3)
    M = 40_000
    w0 = np.array([0.4, -0.2, 0.3, 0.8])
    walkers = retrain_block(history, np.tile(w0, (M, 1)), 5, snapshots=[1])[0]
    shift = walkers - (w0 - 0.3 * block_gradient(w0[None], history.rests[0])[0])
    C = block_covariance(w0[None], history.rests[0])[0]
    error = shift.std(axis=0) / math.sqrt(M)
    assert np.all(np.abs(shift.mean(axis=0)) < 4 * error)
    products = shift[:, :, None] * shift[:, None]
    error = products.std(axis=0) / math.sqrt(M)
    assert np.all(np.abs(products.mean(axis=0) - 0.09 * C / batch) < 4 * error)


def test_retraining_depends_on_seed_and_chunk_alone():
    history, start = run(), np.random.default_rng(0).standard_normal((10, 4))

    def retrain(seed, **options):
        return retrain_block(history, start, seed, chunk=4, **options)

    ends = retrain(1, snapshots=[0, 3, 6])
    np.testing.assert_array_equal(ends[0], start)
    np.testing.assert_array_equal(ends[2:], retrain(1))
    np.testing.assert_array_equal(ends[1:2], retrain(1, snapshots=[3]))
    assert not np.array_equal(ends[2], retrain(2)[0])
    assert np.unique(np.round(ends[2] - ends[0], 12), axis=0).shape[0] == 10


# --- failures and arguments ---------------------------------------------------------


def test_runs_that_diverge_name_their_step():
    history = run()
    wild = [Rest(1e148 * rest.z, 1e148 * rest.b, rest.G) for rest in history.rests]
    with pytest.raises(FloatingPointError, match=r"step \d: 3 of the 3 .* not finite"):
        retrain_block(
            history._replace(rests=wild, learning_rate=1e149), np.zeros((3, 4)), 0
        )


def small_grid(d=4):
    return Grid([-2.0] * d, [2.0] * d, 6)


def unit(grid):
    density = gaussian(grid, 0.0, 0.3)
    return density / density.sum() / grid.cell_volume


GOOD = {
    block_loss: {"w": np.zeros((3, 4)), "rest": rest_of(0)},
    block_gradient: {"w": np.zeros((3, 4)), "rest": rest_of(0)},
    block_covariance: {"w": np.zeros((3, 4)), "rest": rest_of(0)},
    evolve_block: {
        "density": unit(small_grid(2)),
        "grid": small_grid(2),
        "history": run(),
        "slices": 2,
        "substeps": 1,
        "row": 0,
        "noise": "diagonal",
    },
    marginal: {
        "density": unit(small_grid(2)),
        "grid": small_grid(2),
        "axis": 0,
        "refine": 2,
    },
    row_marginal: {"density": unit(small_grid()), "grid": small_grid(), "row": 1},
    retrain_block: {
        "history": run(),
        "start": np.zeros((3, 4)),
        "seed": 0,
        "snapshots": [0, 2],
        "row": None,
        "chunk": 2,
    },
}
BAD = [
    *((f, "w", (np.zeros(4), np.zeros((2, 3)))) for f in list(GOOD)[:3]),
    (evolve_block, "slices", (0, 4, 2.0)),
    (evolve_block, "substeps", (0,)),
    (evolve_block, "row", (2, -1)),
    (evolve_block, "grid", (small_grid(3), small_grid(4))),
    (evolve_block, "noise", ("none",)),
    (
        evolve_block,
        "density",
        (
            np.zeros((6, 5)),
            np.zeros((6, 6)),
            np.full((6, 6), np.nan),
            unit(small_grid(2)) * np.where(np.arange(6) % 2, 3, -1),
        ),
    ),
    (marginal, "density", (np.zeros((5, 5)),)),
    (marginal, "axis", (2, -1, 0.0)),
    (marginal, "refine", (0,)),
    (row_marginal, "row", (2, None)),
    (row_marginal, "density", (np.zeros((6, 6)), np.full((6,) * 4, np.nan))),
    (retrain_block, "row", (2,)),
    (retrain_block, "start", (np.zeros((3, 2)), np.zeros((0, 4)), [[np.nan] * 4])),
    (retrain_block, "seed", (-1, 0.5)),
    (retrain_block, "chunk", (0,)),
    (retrain_block, "snapshots", ([], [2, 1], [0, 9], [-1], [0.5])),
]


@pytest.mark.filterwarnings("ignore::fpbook.fokker_planck.MassAtWallWarning")
@pytest.mark.parametrize(
    ("function", "name", "value"),
    [
        pytest.param(function, name, value, id=f"{function.__name__}-{name}-{i}")
        for function, name, values in BAD
        for i, value in enumerate(values)
    ],
)
def test_bad_arguments_are_named(function, name, value):
    function(**GOOD[function])
    with pytest.raises(ValueError, match=rf"^{name} must .*got "):
        function(**{**GOOD[function], name: value})
