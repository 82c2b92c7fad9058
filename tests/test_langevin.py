"""Clouds of networks against exact discrete laws, distances against brute force.

The Euler-Maruyama scheme and SGD on a quadratic loss have closed recursions for their
first and second moments, exact at any step length: a wrong factor shows at once, and no
tolerance for the step length is needed. Statistical tolerances are four standard errors
of the mean over M walkers, with fixed seeds.
"""

import math
import tracemalloc
from itertools import pairwise

import joblib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fpbook.fokker_planck import Grid
from fpbook.langevin import (
    CHUNK,
    Distance,
    histogram,
    kolmogorov_smirnov,
    l1_distance,
    langevin_ensemble,
    move_ensemble,
    sgd_ensemble,
    wasserstein,
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


def still(x):
    return np.zeros_like(x)


def normals_of(x0, seed, **options):
    """The normals behind one step: D = 1 / (2 dt) makes the step equal to them."""
    walkers = langevin_ensemble(still, 5.0, x0, 0.1, 1, seed, **options)
    return walkers[0] - x0


# --- Langevin: exact laws of the scheme ---------------------------------------------


def test_ornstein_uhlenbeck_has_the_mean_and_variance_of_the_scheme():
    # m' = (1 - a dt) m and v' = (1 - a dt)^2 v + 2 D dt, per axis. At a dt = 0.15 and
    # 0.4 the stationary variance differs from the D / a of the equation by 8 and 25 %.
    a, D, dt, M = np.array([1.5, 4.0]), np.array([0.3, 0.8]), 0.1, 40_000
    x0 = np.full((M, 2), 0.7)
    snapshots = [1, 4, 40]
    walkers = langevin_ensemble(
        lambda x: -a * x, D, x0, dt, 40, seed=1, snapshots=snapshots
    )
    for k, x in zip(snapshots, walkers, strict=True):
        shrink = (1 - a * dt) ** k
        mean = shrink * 0.7
        variance = 2 * D * dt * (1 - shrink**2) / (1 - (1 - a * dt) ** 2)
        assert_mean(x, mean)
        assert_mean((x - mean) ** 2, variance)
        assert_mean((x - mean).prod(axis=1), 0.0)


@pytest.mark.parametrize("kind", ["diagonal", "tensor"])
def test_student_noise_has_the_second_moment_of_the_scheme(kind):
    # D = A + B y^2, drift -k y: E y'^2 = ((1 - k dt)^2 + 2 B dt) E y^2 + 2 A dt, of
    # which d<y^2>/dt = -2 (k - B) <y^2> + 2 A is the limit dt -> 0.
    k, A, B, dt, M = 1.0, 0.2, 0.15, 0.2, 100_000

    def diagonal(y):
        return A + B * y**2

    def tensor(y):
        return diagonal(y)[:, :, np.newaxis]

    snapshots = [1, 2, 5, 30]
    walkers = langevin_ensemble(
        lambda y: -k * y,
        {"diagonal": diagonal, "tensor": tensor}[kind],
        np.ones((M, 1)),
        dt,
        30,
        seed=2,
        snapshots=snapshots,
    )
    factor, source = (1 - k * dt) ** 2 + 2 * B * dt, 2 * A * dt
    for step, y in zip(snapshots, walkers, strict=True):
        limit = source / (1 - factor)
        assert_mean(y**2, limit + factor**step * (1 - limit))
        assert_mean(y, (1 - k * dt) ** step)


TENSORS = {
    "correlated": [[0.5, 0.2], [0.2, 0.3]],
    "rank one": [[0.5, -0.3], [-0.3, 0.18]],
    "one axis only": [[0.0, 0.0], [0.0, 0.4]],
}


@pytest.mark.parametrize("name", TENSORS)
def test_anisotropic_noise_has_the_covariance_of_the_scheme(name):
    # V' = G V G + 2 D dt with G = 1 - H dt; H and D do not commute.
    D, H, dt, M = np.array(TENSORS[name]), np.array([1.0, 3.0]), 0.1, 50_000
    walkers = langevin_ensemble(
        lambda x: -H * x,
        lambda x: np.broadcast_to(D, (len(x), 2, 2)),
        np.zeros((M, 2)),
        dt,
        20,
        seed=3,
        snapshots=[1, 20],
    )
    V, G, k = np.zeros((2, 2)), np.diag(1 - H * dt), 0
    for steps, x in zip((1, 20), walkers, strict=True):
        while k < steps:
            V, k = G @ V @ G + 2 * D * dt, k + 1
        for i, j in ((0, 0), (0, 1), (1, 1)):
            if V[i, j] == 0:
                assert np.all(x[:, i] * x[:, j] == 0)
            else:
                assert_mean(x[:, i] * x[:, j], V[i, j])


def covariance_of_step(D):
    """Covariance of a step of length 0.1 with the diffusion D, solved for exactly."""
    d = len(D)
    # Walkers with the same tensor have increments R z.
    x0 = np.zeros((3 * d, d))
    z = normals_of(x0, 4)
    walkers = langevin_ensemble(
        still, lambda x: np.broadcast_to(D, (len(x), d, d)), x0, 0.1, 1, 4
    )
    R = np.linalg.lstsq(z, walkers[0], rcond=None)[0].T
    return R @ R.T


@settings(max_examples=60, deadline=None)
@given(seed=seeds, d=st.integers(1, 4), rank=st.integers(0, 4), size=st.floats(-6, 6))
def test_noise_of_a_tensor_is_a_root_of_it(seed, d, rank, size):
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(d, min(rank, d))) * 10 ** (size / 2)
    D = factor @ factor.T
    covariance = covariance_of_step(D)
    # Dropping a pivot of relative size 1e-14 leaves entries of sqrt(1e-14) at most.
    np.testing.assert_allclose(covariance, 0.2 * D, rtol=0, atol=2e-7 * np.trace(D))
    if rank == 1:
        np.testing.assert_allclose(covariance, 0.2 * D, rtol=1e-12)


def test_noise_that_is_only_nearly_singular_is_kept():
    D = np.array([[1.0, 1 - 1e-10], [1 - 1e-10, 1.0]])
    np.testing.assert_allclose(covariance_of_step(D), 0.2 * D, rtol=ROUNDING)


def balance(w):
    return w[:, 0] ** 2 - w[:, 1] ** 2


def autoencoder_drift(w):
    return (1 - w.prod(axis=1, keepdims=True)) * w[:, ::-1]


def test_rank_one_noise_obeys_the_law_of_balance():
    # Drift and noise of the scalar autoencoder are multiples of v = (w2, w1): a step
    # alpha v changes q = w1^2 - w2^2 to q (1 - alpha^2), whatever alpha.
    def diffusion(w):
        strength = 0.05 * (1 - w.prod(axis=1)) ** 2 + 0.2
        v = w[:, ::-1]
        return strength[:, None, None] * v[:, :, None] * v[:, None, :]

    rng = np.random.default_rng(0)
    x0 = rng.uniform(-1.5, 1.5, size=(500, 2))
    path = langevin_ensemble(
        autoencoder_drift, diffusion, x0, 0.05, 10, 5, snapshots=range(11)
    )
    largest = 0.0
    for w, after in pairwise(path):
        v = w[:, ::-1]
        alpha = ((after - w) * v).sum(axis=1) / (v**2).sum(axis=1)
        largest = max(largest, np.abs(alpha).max())
        # Differences of squares of size |w|^2.
        scale = (w**2).sum(axis=1) * (1 + alpha**2)
        error = balance(after) - balance(w) * (1 - alpha**2)
        assert np.max(np.abs(error) / scale) < 1e-14
    assert largest > 0.5  # the noise was on


def constant_half(x):
    return np.full(x.shape, 0.5)


def tensor_of(diagonal):
    return lambda x: diagonal(x)[:, :, np.newaxis] * np.eye(x.shape[1])


@pytest.mark.parametrize(
    ("diffusion", "diagonal"),
    [
        (0.5, constant_half),
        (np.array([0.5, 2.0]), lambda x: np.array([0.5, 2.0])),
        (lambda x: 1 + x**2, lambda x: 1 + x**2),
        (tensor_of(lambda x: 1 + x**2), lambda x: 1 + x**2),
        (0.0, still),
    ],
)
def test_step_is_the_one_of_euler_and_maruyama(diffusion, diagonal):
    # Everything evaluated before the step: Ito.
    x0 = np.random.default_rng(0).normal(size=(50, 2))
    z, dt = normals_of(x0, 6), 0.3
    walkers = langevin_ensemble(np.sin, diffusion, x0, dt, 1, 6)
    expected = x0 + np.sin(x0) * dt + np.sqrt(2 * diagonal(x0) * dt) * z
    np.testing.assert_allclose(walkers[0], expected, rtol=ROUNDING, atol=ROUNDING)


def test_noise_is_standard_normal_and_independent_between_axes_and_steps():
    walkers = langevin_ensemble(
        still, 0.5, np.zeros((20_000, 2)), 1.0, 2, 7, snapshots=[0, 1, 2]
    )
    z = np.diff(walkers, axis=0).transpose(1, 0, 2).reshape(-1, 4)
    for column in z.T:
        assert stats.kstest(column, "norm").pvalue > 1e-3
    for i, j in ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)):
        assert_mean(z[:, i] * z[:, j], 0.0)


# --- SGD: exact laws of discrete training -------------------------------------------


def frozen_decoder(c0):
    """Mean gradient of (w c0 x - y)^2 / 2 over samples (x, y), shape (n, B, 2)."""

    def gradient(w, batch):
        x, y = batch[..., 0], batch[..., 1]
        return (c0 * x * (c0 * w * x - y)).mean(axis=1, keepdims=True)

    return gradient


@pytest.mark.parametrize(
    ("s", "c0", "eta", "B"), [(1.0, 1.0, 0.4, 4), (0.8, 1.3, 0.2, 1)]
)
def test_linear_regression_has_the_moments_of_discrete_sgd(s, c0, eta, B):
    # x ~ N(0, s^2), target x + sigma xi, y = w - 1 / c0, k = s^2 c0^2. With S and n the
    # batch means of x^2 and x xi, y' = y (1 - eta c0^2 S) + eta c0 sigma n, and
    # E S^2 = s^4 (1 + 2 / B), E n^2 = s^2 / B, E S n = 0.
    sigma, k, M = 0.5, s**2 * c0**2, 60_000

    def draw(rng, n, batch_size):
        x = s * rng.standard_normal((n, batch_size))
        return np.stack([x, x + sigma * rng.standard_normal(x.shape)], axis=-1)

    snapshots = [1, 3, 10, 40]
    networks = sgd_ensemble(
        frozen_decoder(c0),
        draw,
        np.full((M, 1), 1 / c0 + 1),
        eta,
        B,
        40,
        seed=8,
        snapshots=snapshots,
    )
    stationary = eta * sigma**2 / B / (2 - eta * k * (1 + 2 / B))
    factor = 1 - 2 * eta * k + (eta * k) ** 2 * (1 + 2 / B)
    if s == c0 == 1:
        assert stationary == pytest.approx(0.4 * 0.25 / 4 / (2 - 0.4 * 1.5))
    for step, w in zip(snapshots, networks, strict=True):
        y = w[:, 0] - 1 / c0
        assert_mean(y, (1 - eta * k) ** step)
        assert_mean(y**2, stationary + factor**step * (1 - stationary))


def test_a_training_set_is_drawn_with_replacement():
    # Five samples, batches of three: without replacement the covariance would be half,
    # (N - B) / (N - 1). The recursion of the two moments is exact with the mean and
    # covariance of (x^2, x y) over the five, the latter divided by B.
    samples = np.array([[1.0, 2.0], [0.5, -1.0], [-1.2, 0.3], [0.1, 1.0], [0.8, 0.9]])
    eta, B, M, weight_decay = 0.5, 3, 60_000, 0.1

    def gradient(w, batch):
        return frozen_decoder(1.0)(w, batch) + weight_decay * w

    snapshots = [1, 4, 20]
    networks = sgd_ensemble(
        gradient, samples, np.full((M, 1), -1.0), eta, B, 20, 9, snapshots=snapshots
    )
    a, b = samples[:, 0] ** 2 + weight_decay, samples[:, 0] * samples[:, 1]
    mean_a, mean_b = a.mean(), b.mean()
    (var_a, cov), (_, var_b) = np.cov(a, b, bias=True) / B
    first, second, k = -1.0, 1.0, 0
    for steps, w in zip(snapshots, networks, strict=True):
        while k < steps:
            second = (
                second * ((1 - eta * mean_a) ** 2 + eta**2 * var_a)
                + 2 * eta * first * (mean_b - eta * mean_a * mean_b - eta * cov)
                + eta**2 * (mean_b**2 + var_b)
            )
            first, k = (1 - eta * mean_a) * first + eta * mean_b, k + 1
        assert_mean(w[:, 0], first)
        assert_mean(w[:, 0] ** 2, second)


def test_every_network_has_its_own_minibatch_at_every_step():
    # The gradient returns the samples themselves: N (B = 2) in {0 .. 999}.
    samples = np.arange(1000.0)
    networks = sgd_ensemble(
        lambda w, batch: batch,
        samples,
        np.zeros((3000, 2)),
        1.0,
        2,
        2,
        10,
        snapshots=[0, 1, 2],
    )
    drawn = -np.diff(networks, axis=0)
    assert set(np.unique(drawn)) <= set(samples)
    columns = drawn.transpose(1, 0, 2).reshape(3000, 4)
    for column in columns.T:
        counts = np.histogram(column, bins=10, range=(0, 1000))[0]
        assert stats.chisquare(counts).pvalue > 1e-3
    centred = columns - 499.5
    for i, j in ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)):
        assert_mean(centred[:, i] * centred[:, j], 0.0)


def test_scalar_autoencoder_obeys_the_discrete_law_of_balance():
    # q' = q (1 - eta^2 r^2), q = w1^2 - w2^2, r the batch mean of (1 - w1 w2) x^2
    # + sigma x xi: exact for the minibatches that were drawn.
    eta, B, sigma, steps = 0.2, 4, 0.5, 30
    batches = []

    def draw(rng, n, batch_size):
        x, xi = rng.standard_normal((2, n, batch_size))
        batches.append(np.stack([x, x + sigma * xi], axis=-1))
        return batches[-1]

    def gradient(w, batch):
        x, y = batch[..., 0], batch[..., 1]
        r = (x * (y - w.prod(axis=1, keepdims=True) * x)).mean(axis=1, keepdims=True)
        return -r * w[:, ::-1]

    x0 = np.random.default_rng(0).uniform(-1.2, 1.2, size=(200, 2))
    path = sgd_ensemble(gradient, draw, x0, eta, B, steps, 11, snapshots=range(31))
    assert len(batches) == steps
    for (w, after), batch in zip(pairwise(path), batches, strict=True):
        x, xi_sigma = batch[..., 0], batch[..., 1] - batch[..., 0]
        r = ((1 - w.prod(axis=1))[:, None] * x**2 + x * xi_sigma).mean(axis=1)
        scale = (w**2).sum(axis=1) * (1 + (eta * r) ** 2)
        error = balance(after) - balance(w) * (1 - eta**2 * r**2)
        # Rounding of r, a mean of x^2 up to 10, enters with eta |r|.
        assert np.max(np.abs(error) / scale) < 1e-14


# --- chunks, streams, jobs ----------------------------------------------------------


START = np.linspace(-1, 1, 180).reshape(90, 2)


def quartic_cloud(x0=START, steps=8, seed=12, chunk=20, **options):
    def drift(x):
        return x - x**3

    def diffusion(x):
        return 0.1 + x**2 / 4

    return langevin_ensemble(
        drift, diffusion, x0, 0.05, steps, seed, chunk=chunk, **options
    )


def regression_cloud(x0=START, steps=8, seed=12, chunk=20, **options):
    samples = np.arange(14.0).reshape(7, 2)
    return sgd_ensemble(
        lambda w, batch: w - batch.mean(axis=1),
        samples,
        x0,
        0.05,
        3,
        steps,
        seed,
        chunk=chunk,
        **options,
    )


CLOUDS = [quartic_cloud, regression_cloud]


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_seed_gives_one_result_another_seed_another(cloud):
    np.testing.assert_array_equal(cloud(), cloud())
    np.testing.assert_array_equal(cloud(), cloud(seed=np.int64(12)))
    assert np.all(np.any(cloud(seed=13) != cloud(), axis=2))


@pytest.mark.parametrize("cloud", CLOUDS)
def test_snapshots_are_the_walkers_of_shorter_runs(cloud):
    kept = cloud(snapshots=[0, 3, 8])
    assert kept.shape == (3, 90, 2)
    np.testing.assert_array_equal(kept[0], START)
    for row, steps in zip(kept, (0, 3, 8), strict=True):
        np.testing.assert_array_equal(cloud(steps=steps)[0], row)
    np.testing.assert_array_equal(cloud(steps=20, snapshots=[8])[0], kept[2])
    np.testing.assert_array_equal(cloud(snapshots=np.array([3]))[0], kept[1])


@pytest.mark.parametrize("cloud", CLOUDS)
def test_chunks_have_streams_of_their_own(cloud):
    # Neither more chunks nor a shorter last one change what came before.
    np.testing.assert_array_equal(cloud(START[:40]), cloud()[:, :40])
    np.testing.assert_array_equal(cloud(START[:20], chunk=20), cloud()[:, :20])
    assert np.all(np.any(cloud(chunk=30)[:, 20:] != cloud()[:, 20:], axis=2))


def test_normals_of_different_chunks_are_uncorrelated():
    z = normals_of(np.zeros((6000, 1)), 14, chunk=2000).reshape(3, 2000).T
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert_mean(z[:, i] * z[:, j], 0.0)


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_jobs_do_not_change_the_result(cloud, backend):
    with joblib.parallel_config(backend=backend):
        parallel = cloud(jobs=2, snapshots=[2, 8])
    np.testing.assert_array_equal(parallel, cloud(snapshots=[2, 8]))


def test_a_dask_cluster_gives_the_same_result():
    from distributed import Client, LocalCluster

    cluster = LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
    )
    with cluster, Client(cluster), joblib.parallel_config(backend="dask"):
        results = [cloud(jobs=-1) for cloud in CLOUDS]
    for cloud, parallel in zip(CLOUDS, results, strict=True):
        np.testing.assert_array_equal(parallel, cloud())


def test_a_million_walkers_need_little_more_than_their_result():
    x0 = np.ones((10**6, 2))
    tracemalloc.start()
    langevin_ensemble(
        lambda x: -x, lambda x: x[:, :, None] * x[:, None], x0, 0.01, 3, 15
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The result has 16 MB, a chunk of 2^12 walkers 64 kB per array of walkers.
    assert CHUNK == 2**12
    assert peak < 16e6 + 40 * 2**12 * 16


@pytest.mark.parametrize("jobs", [1, 2])
def test_progress_is_told(told, jobs):
    with joblib.parallel_config(backend="threading"):
        quartic_cloud(jobs=jobs)
    assert told[0] == (5 * 8, "Langevin")
    assert sum(told[1:]) == 5 * 8
    assert len(told) - 1 == {1: 40, 2: 5}[jobs]


def test_callers_arrays_are_neither_written_nor_writeable():
    x0 = np.ones((4, 2))
    velocity = np.full((4, 2), 2.0)
    walkers = langevin_ensemble(lambda x: velocity, 0.0, x0, 0.5, 3, 0)
    np.testing.assert_array_equal(walkers[0], np.full((4, 2), 4.0))
    np.testing.assert_array_equal(velocity, np.full((4, 2), 2.0))
    # A drift that returns the walkers themselves is no aliasing trap.
    walkers = langevin_ensemble(lambda x: x, 0.0, x0, 0.5, 2, 0)
    np.testing.assert_array_equal(walkers[0], np.full((4, 2), 2.25))
    tensor = np.ones((4, 2, 2))
    langevin_ensemble(still, lambda x: tensor, x0, 0.5, 3, 0)
    np.testing.assert_array_equal(tensor, np.ones((4, 2, 2)))
    with pytest.raises(ValueError, match="read-only"):
        langevin_ensemble(lambda x: np.negative(x, out=x), 0.0, x0, 0.5, 1, 0)
    with pytest.raises(ValueError, match="read-only"):
        sgd_ensemble(
            lambda w, batch: np.negative(w, out=w), np.ones(3), x0, 0.5, 1, 1, 0
        )
    np.testing.assert_array_equal(x0, np.ones((4, 2)))


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("lost", [np.inf, -np.inf, np.nan])
def test_lost_walkers_are_counted_and_their_step_named(lost, jobs):
    x0 = np.array([[0.0, 0.0], [0.5, 0.0], [-9.0, 0.0]])
    infinite = np.array([[1.0, 1.0]]) * lost

    def drift(x):
        # Walkers 0 and 1 pass 2 at step 2 and are lost at step 3.
        return np.where(x[:, :1] >= 2, infinite, 1.0)

    message = "step 3: 2 of the 3 walkers of a chunk are not finite"
    with (
        joblib.parallel_config(backend="threading"),
        pytest.raises(FloatingPointError, match=message),
    ):
        langevin_ensemble(drift, 0.0, x0, 1.0, 9, 0, jobs=jobs)
    with pytest.raises(FloatingPointError, match=message):
        sgd_ensemble(lambda w, _: -drift(w), np.ones(3), x0, 1.0, 1, 9, 0)


def test_infinities_of_both_signs_do_not_cancel():
    x0 = np.array([[1.0], [-1.0]])
    with pytest.raises(FloatingPointError, match="step 1: 2 of the 2"):
        langevin_ensemble(lambda x: x * np.inf, 0.0, x0, 1.0, 1, 0)


def test_walkers_whose_sum_overflows_are_not_lost():
    far = np.full((4, 1), 1e308)
    walkers = langevin_ensemble(lambda x: far, 0.0, np.zeros((4, 1)), 1.0, 1, 0)
    np.testing.assert_array_equal(walkers[0], far)


def moving_once(walkers, rng):
    walkers += 1
    yield


def test_moves_that_end_early_leave_no_snapshot_empty():
    for jobs in (1, 2):
        moved = move_ensemble(moving_once, np.zeros((3, 1)), 1, 0, [0, 1], 2, jobs)
        np.testing.assert_array_equal(moved[:, :, 0], [[0] * 3, [1] * 3])
        with pytest.raises(ValueError, match="move must give an item per step, up to"):
            move_ensemble(moving_once, np.zeros((3, 1)), 4, 0, [1, 3], 2, jobs)
    with pytest.raises(TypeError, match="move must return an iterator, got None"):
        move_ensemble(lambda walkers, rng: None, np.zeros((3, 1)), 1, 0)


@pytest.mark.parametrize(
    "diffusion",
    [
        lambda x: np.full(x.shape, np.nan),
        lambda x: np.full((*x.shape, 2), np.nan),
        lambda x: np.full((*x.shape, 2), np.inf),
    ],
)
def test_noise_that_is_not_a_number_is_noticed(diffusion):
    with pytest.raises(FloatingPointError, match="step 1: 3 of the 3"):
        langevin_ensemble(still, diffusion, np.ones((3, 2)), 0.1, 1, 0)


# --- distances ----------------------------------------------------------------------


def random_density(seed, shape, empty=0.2):
    """Masses with some empty cells, of total mass one."""
    rng = np.random.default_rng(seed)
    masses = rng.exponential(size=shape) * (rng.random(shape) > empty)
    masses.flat[0] += 0.1
    return masses / masses.sum()


def draw_walkers(rng, edges, masses, M):
    """Walkers of a density that is constant in each cell, shape (M, d)."""
    cells = np.unravel_index(
        rng.choice(masses.size, size=M, p=masses.ravel()), masses.shape
    )
    return np.stack(
        [
            edge[cell] + np.diff(edge)[cell] * rng.random(M)
            for edge, cell in zip(edges, cells, strict=True)
        ],
        axis=-1,
    )


GRID = Grid([-1, 0], [2, 1], [6, 4])


def test_histogram_counts_walkers_per_cell():
    # Cells of 0.5 x 0.25, so that 4 walkers give 1 / (4 x 0.125) = 2 each.
    walkers = np.array([[-0.9, 0.1], [1.9, 0.9], [1.8, 0.8], [0.2, 0.3]])
    expected = np.zeros((6, 4))
    expected[0, 0], expected[5, 3], expected[2, 1] = 2, 4, 2
    np.testing.assert_array_equal(histogram(walkers, GRID), expected)
    np.testing.assert_array_equal(histogram([[0.6], [5.0]], Grid(0, 1, 2)), [0, 1])


@settings(max_examples=30, deadline=None)
@given(seed=seeds, outside=st.integers(0, 20))
def test_mass_of_a_histogram_is_the_share_inside(seed, outside):
    rng = np.random.default_rng(seed)
    inside = draw_walkers(rng, GRID.edges, random_density(seed, (6, 4)), 30)
    walkers = np.concatenate([inside, rng.uniform(3, 9, size=(outside, 2))])
    density = histogram(rng.permutation(walkers), GRID)
    assert np.all(density >= 0)
    mass = density.sum() * GRID.cell_volume
    assert mass == pytest.approx(30 / (30 + outside), rel=ROUNDING)


def test_l1_by_hand():
    # Masses 1/2, 1/4, 1/4, 0; of 5 walkers 1, 2, 0, 1 inside and one outside.
    grid = Grid(0, 4, 4)
    density = np.array([0.5, 0.25, 0.25, 0.0])
    walkers = np.array([[0.5], [1.5], [1.6], [3.5], [4.5]])
    value, floor = l1_distance(walkers, grid, density)
    assert value == pytest.approx(0.3 + 0.15 + 0.25 + 0.2 + 0.2, rel=ROUNDING)
    assert floor == pytest.approx(
        sum(brute_mean_deviation(5, p) for p in density), rel=1e-12
    )
    merged = l1_distance(walkers, grid, density, bins=2)
    assert merged.value == pytest.approx(0.15 + 0.05 + 0.2, rel=ROUNDING)
    assert merged.floor == pytest.approx(
        brute_mean_deviation(5, 0.75) + brute_mean_deviation(5, 0.25), rel=1e-12
    )


def brute_mean_deviation(M, p):
    return sum(
        abs(k / M - p) * math.comb(M, k) * p**k * (1 - p) ** (M - k)
        for k in range(M + 1)
    )


@settings(max_examples=60, deadline=None)
@given(M=st.integers(1, 400), p=st.floats(0, 1))
def test_floor_of_l1_is_the_mean_deviation_of_the_binomial(M, p):
    grid = Grid(0, 2, 2)
    floor = l1_distance(np.full((M, 1), 0.5), grid, np.array([p, 1 - p])).floor
    # Both cells deviate alike. A thousand terms of rounding 1e-16 in the sum.
    assert floor == pytest.approx(2 * brute_mean_deviation(M, p), rel=1e-10, abs=1e-13)


@pytest.mark.parametrize("p", [5e-324, 1e-308, 1e-200, 1e-50])
def test_floor_of_l1_with_far_tails(p):
    # As in the tails of exp(-L / T); they count for nothing.
    grid, walkers = Grid(0, 4, 4), np.full((7, 1), 0.5)
    density = np.array([p, 0.5, 0.5, p])
    floor = l1_distance(walkers, grid, density).floor
    assert floor == pytest.approx(2 * brute_mean_deviation(7, 0.5), rel=1e-12)


def test_floor_of_l1_at_integers_and_for_certain_cells():
    grid = Grid(0, 4, 4)
    walkers = np.full((4, 1), 0.5)
    assert l1_distance(walkers, grid, np.array([1.0, 0, 0, 0])) == Distance(0.0, 0.0)
    floor = l1_distance(walkers, grid, np.full(4, 0.25)).floor
    assert floor == pytest.approx(4 * brute_mean_deviation(4, 0.25), rel=1e-12)


@pytest.mark.parametrize("M", [10**4, 10**6])
def test_floor_of_l1_is_gaussian_for_full_bins(M):
    walkers, masses = np.broadcast_to([[0.0, 0.5]], (M, 2)), random_density(1, (6, 4))
    full = masses[masses > 0]
    gaussian = math.sqrt(2 / (math.pi * M)) * np.sqrt(full * (1 - full)).sum()
    floor = l1_distance(walkers, GRID, masses / GRID.cell_volume).floor
    # Corrections are of relative order 1 / (M P).
    assert floor == pytest.approx(gaussian, rel=(1 / (M * full)).mean())


@pytest.mark.parametrize(("M", "bins"), [(12, None), (300, (3, 2))])
def test_floor_and_scatter_of_l1_by_simulation(M, bins):
    rng, masses = np.random.default_rng(2), random_density(3, (6, 4))
    density = masses / GRID.cell_volume
    runs = [
        l1_distance(draw_walkers(rng, GRID.edges, masses, M), GRID, density, bins)
        for _ in range(1500)
    ]
    values, floors = np.array(runs).T
    assert np.all(floors == floors[0])
    assert_mean(values, floors[0])


def test_l1_scatters_as_told_with_many_full_bins():
    # Relative error of a standard deviation from 1000 runs: 1 / sqrt(2000) = 2.2 %; the
    # formula leaves out the sum of P^2, 1 / 100 here.
    rng, M, masses = np.random.default_rng(4), 10**4, np.full((10, 10), 0.01)
    grid = Grid([0, 0], [1, 1], 10)
    centres = np.stack(np.meshgrid(*grid.centers, indexing="ij"), -1).reshape(-1, 2)
    values = [
        l1_distance(
            np.repeat(centres, rng.multinomial(M, masses.ravel()), axis=0),
            grid,
            masses / grid.cell_volume,
        ).value
        for _ in range(1000)
    ]
    expected = math.sqrt((1 - 2 / math.pi) / M)
    assert np.std(values) == pytest.approx(expected, rel=0.1)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, M=st.integers(1, 50))
def test_l1_is_between_zero_and_two_and_falls_with_coarser_bins(seed, M):
    rng, masses = np.random.default_rng(seed), random_density(seed, (6, 4))
    walkers = rng.uniform([-1.5, -0.5], [2.5, 1.5], size=(M, 2))
    density = masses / GRID.cell_volume
    fine, half, whole = (
        l1_distance(walkers, GRID, density, bins) for bins in (1, 2, (6, 4))
    )
    for fall in (
        (2, fine.value, half.value, whole.value, 0),
        (2, fine.floor, half.floor, whole.floor, 0),
    ):
        assert np.all(np.diff(fall) <= ROUNDING)
    assert whole.floor == pytest.approx(0, abs=1e-7)  # mass one up to rounding
    outside = l1_distance(walkers + 10, GRID, density)
    assert outside.value == pytest.approx(2, rel=ROUNDING)


def test_bins_merge_neighbouring_cells():
    # All mass and all walkers in one bin of 3 x 2 cells, but in different cells.
    masses = np.zeros((6, 4))
    masses[3, 2] = 1.0
    walkers = np.array([[1.9, 0.9], [0.6, 0.55]])  # cells (5, 3) and (3, 2)
    density = masses / GRID.cell_volume
    assert l1_distance(walkers, GRID, density).value == pytest.approx(1)
    assert l1_distance(walkers, GRID, density, (3, 2)).value == pytest.approx(0)
    assert l1_distance(walkers, GRID, density, (2, 4)).value == pytest.approx(1)


def brute_force_gap(walkers, edges, masses, points):
    """Distribution function of the walkers minus that of the density."""
    F = np.interp(points, edges, np.concatenate([[0], np.cumsum(masses)]))
    return (np.asarray(walkers)[:, np.newaxis] <= points).mean(axis=0) - F


@settings(max_examples=40, deadline=None)
@given(
    seed=seeds,
    walkers=st.lists(st.floats(-3, 3), min_size=1, max_size=12),
    cells=st.integers(1, 7),
)
def test_one_dimensional_distances_by_brute_force(seed, walkers, cells):
    masses, widths = random_density(seed, cells), random_density(seed + 1, cells, 0)
    edges = -1 + 3 * np.concatenate([[0], np.cumsum(widths)])
    density = masses / np.diff(edges)
    points = np.linspace(-3.1, 3.1, 20_001)
    gap = np.abs(brute_force_gap(walkers, edges, masses, points))
    h = points[1] - points[0]
    # A change at an unknown place within h costs h times its size; 1 in all for either
    # distribution function.
    w1 = wasserstein(np.array(walkers), edges, density).value
    assert w1 == pytest.approx(gap[:-1].sum() * h, abs=3 * h)
    ks = kolmogorov_smirnov(np.array(walkers), edges, density).value
    just_before = np.nextafter(walkers, -9)
    around = np.concatenate([walkers, just_before])
    exact = np.abs(brute_force_gap(walkers, edges, masses, around)).max()
    assert ks == pytest.approx(exact, abs=1e-12)
    assert ks >= gap.max() - 1e-12


@settings(max_examples=30, deadline=None)
@given(seed=seeds, M=st.integers(1, 30))
def test_wasserstein_agrees_with_scipy(seed, M):
    rng = np.random.default_rng(seed)
    edges, masses = np.linspace(-1, 2, 6), random_density(seed, 5)
    walkers = rng.uniform(-2, 3, M)
    # 400 equal weights per cell stand for its uniform density: each within h / 1600 on
    # average, h = 0.6.
    fine = np.linspace(-1, 2, 2001)
    expected = stats.wasserstein_distance(
        walkers, (fine[1:] + fine[:-1]) / 2, v_weights=np.repeat(masses, 400)
    )
    w1 = wasserstein(walkers, edges, masses / 0.6).value
    assert w1 == pytest.approx(expected, abs=0.6 / 1600)


@settings(max_examples=40, deadline=None)
@given(c=st.floats(-5, 5), h=st.floats(0.1, 2), shift=st.floats(-10, 10))
def test_wasserstein_of_a_point_and_a_cell(c, h, shift):
    # Mean distance of c from a uniform point in (0, h), whatever their common shift and
    # wherever else there are empty cells.
    inside = (c**2 + (h - c) ** 2) / (2 * h)
    expected = inside if 0 <= c <= h else abs(c - h / 2)
    edges = np.array([-1, 0, 1, 2]) * h + shift
    w1 = wasserstein(np.array([c + shift]), edges, np.array([0, 1 / h, 0]))
    assert w1.value == pytest.approx(expected, rel=1e-11, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, shift=st.floats(-3, 3), factor=st.floats(0.1, 10))
def test_distances_obey_their_symmetries(seed, shift, factor):
    rng = np.random.default_rng(seed)
    edges, masses = np.linspace(-1, 2, 8), random_density(seed, 7)
    density, walkers = masses / np.diff(edges), rng.uniform(-2, 3, 25)
    w1, ks = wasserstein(walkers, edges, density), kolmogorov_smirnov
    moved = factor * walkers + shift, factor * edges + shift, density / factor
    mirrored = -walkers, -edges[::-1], density[::-1]
    # Shifts and factors up to 10 put knots wrong by 1e-15 each.
    for arguments, scale in ((moved, factor), (mirrored, 1.0)):
        again = wasserstein(*arguments)
        assert again.value == pytest.approx(scale * w1.value, rel=1e-11, abs=1e-12)
        assert again.floor == pytest.approx(scale * w1.floor, rel=1e-9)
        assert ks(*arguments).value == pytest.approx(
            ks(walkers, edges, density).value, abs=1e-12
        )
    # Twice the same walkers are the same staircase.
    twice = np.concatenate([walkers, walkers])
    assert wasserstein(twice, edges, density).value == pytest.approx(w1.value)
    # Moving every walker by delta changes W1 by at most |delta|.
    delta = wasserstein(walkers + shift, edges, density).value - w1.value
    assert abs(delta) <= abs(shift) + 1e-12
    assert ks(walkers, edges, density).value <= 1


def test_distances_of_the_quantiles_of_the_density():
    # Walkers at the middles of M equal shares of the mass: KS = 1 / 2M exactly, and
    # W1 = 1 / 4M times the total width, at density 1 / width.
    M, edges = 1000, np.linspace(-1, 2, 7)
    walkers = -1 + 3 * (np.arange(M) + 0.5) / M
    density = np.full(6, 1 / 3)
    ks = kolmogorov_smirnov(walkers, edges, density)
    w1 = wasserstein(walkers, edges, density)
    assert ks.value == pytest.approx(1 / (2 * M), rel=1e-9)
    assert w1.value == pytest.approx(3 / (4 * M), rel=1e-9)
    # Where the staircase and the line never cross.
    assert kolmogorov_smirnov(walkers + 9, edges, density).value == 1.0
    assert wasserstein(walkers + 9, edges, density).value == pytest.approx(9)


@pytest.mark.parametrize("M", [1, 5, 200])
def test_floor_of_wasserstein_by_simulation(M):
    rng, edges = np.random.default_rng(5), np.linspace(-3, 4, 11)
    masses = random_density(6, 10)
    density = masses / 0.7
    runs = [
        wasserstein(draw_walkers(rng, (edges,), masses, M)[:, 0], edges, density)
        for _ in range(2500)
    ]
    values, floors = np.array(runs).T
    assert np.all(floors == floors[0])
    assert_mean(values, floors[0])


def test_floor_of_wasserstein_for_one_walker_and_one_cell():
    # E|F_1 - F| = 2 F (1 - F): a polynomial, integrated exactly, 1 / 3 of the width.
    floor = wasserstein(np.array([0.3]), np.array([0.0, 2.0]), np.array([0.5])).floor
    assert floor == pytest.approx(2 / 3, rel=1e-12)


@pytest.mark.parametrize("cells", [1, 10, 100])
def test_floor_of_wasserstein_for_many_walkers(cells):
    # The integral of sqrt(F (1 - F)) over the unit interval is pi / 8; its square roots
    # at the ends cost 8 Gauss points in a cell 2e-4 of it at most.
    M, edges = 10**6, np.linspace(0, 1, cells + 1)
    walkers = np.broadcast_to(0.5, M)
    floor = wasserstein(walkers, edges, np.ones(cells)).floor
    expected = math.sqrt(2 / (math.pi * M)) * math.pi / 8
    assert floor == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("M", [20, 100, 1000])
def test_floor_of_kolmogorov_smirnov_is_its_mean(M):
    # scipy's kstwo is the exact law; the next correction is of order M^(-3/2).
    exact = stats.kstwo(M).mean()
    walkers = np.full(M, 0.5)
    floor = kolmogorov_smirnov(walkers, np.array([0.0, 1.0]), np.ones(1)).floor
    assert floor == pytest.approx(exact, abs=0.1 * M**-1.5)


def test_floor_of_kolmogorov_smirnov_by_simulation():
    # With 400 walkers the formula errs by 1e-5 at most, a third of the standard error.
    rng, edges, M = np.random.default_rng(7), np.linspace(-3, 4, 11), 400
    masses = random_density(8, 10)
    runs = [
        kolmogorov_smirnov(
            draw_walkers(rng, (edges,), masses, M)[:, 0], edges, masses / 0.7
        )
        for _ in range(3000)
    ]
    values, floors = np.array(runs).T
    assert np.all(floors == floors[0])
    assert_mean(values, floors[0])


def test_walkers_of_an_equation_reach_the_floor_of_its_density():
    # The scheme at dt = 0.01 keeps N(0, v), v = 0.2 / (1 - 0.005): not a walker more or
    # less than chance in all three distances. Four standard deviations: 2.4 / sqrt(M)
    # for L1 (1.5 floors here), and KS exceeds 1.95 / sqrt(M) once in a thousand.
    M = 20_000
    v = 0.2 / (1 - 0.01 / 2)
    x0 = math.sqrt(v) * np.random.default_rng(9).normal(size=(M, 1))
    walkers = langevin_ensemble(lambda x: -x, 0.2, x0, 0.01, 100, 16)[0]
    grid = Grid(-3, 3, 120)
    edges = grid.edges[0]
    density = np.diff(stats.norm.cdf(edges, scale=math.sqrt(v))) / grid.cell_volume
    value, floor = l1_distance(walkers, grid, density, bins=2)
    assert abs(value - floor) < 4 * math.sqrt((1 - 2 / math.pi) / M)
    assert kolmogorov_smirnov(walkers[:, 0], edges, density).value < 1.95 / M**0.5
    w1 = wasserstein(walkers[:, 0], edges, density)
    assert w1.value < 3 * w1.floor
    shifted = wasserstein(walkers[:, 0] + 0.1, edges, density)
    assert shifted.value == pytest.approx(0.1, abs=3 * w1.floor)


# --- arguments ----------------------------------------------------------------------


LANGEVIN = {
    "drift": still,
    "diffusion": 0.1,
    "x0": np.zeros((6, 2)),
    "dt": 0.1,
    "steps": 3,
    "seed": 0,
}
SGD = {
    "gradient": lambda w, batch: w - batch.mean(axis=1),
    "data": np.ones((5, 2)),
    "x0": np.zeros((6, 2)),
    "learning_rate": 0.1,
    "batch_size": 2,
    "steps": 3,
    "seed": 0,
}
GRIDDED = {
    "walkers": np.full((4, 2), 0.5),
    "grid": GRID,
    "density": np.full((6, 4), 1 / 3),
}
ON_A_LINE = {
    "walkers": np.full(4, 0.5),
    "edges": np.linspace(0, 1, 5),
    "density": np.ones(4),
}
GOOD = {
    langevin_ensemble: LANGEVIN,
    sgd_ensemble: SGD,
    histogram: {name: GRIDDED[name] for name in ("walkers", "grid")},
    l1_distance: GRIDDED,
    wasserstein: ON_A_LINE,
    kolmogorov_smirnov: ON_A_LINE,
}

BAD_RUN = {
    "x0": (np.zeros(6), np.zeros((0, 2)), np.zeros((6, 0)), np.array([[math.nan]])),
    "steps": (-1, 2.0),
    "seed": (-1, 1.5, None),
    "snapshots": ([], [1, 1], [2, 1], [-1, 2], [4], [1.0]),
    "chunk": (0, 2.5),
    "jobs": (0, 1.5),
}
BAD_DENSITIES = (
    np.full((6, 4), 0.3),
    np.full((6, 4), math.nan),
    np.full((4, 6), 1 / 3),
    np.array([[9.0, -1.0, 0.0, 0.0]] + [[0.0] * 4] * 5),
)
BAD = {
    langevin_ensemble: {
        **BAD_RUN,
        "dt": (0.0, -0.1, math.nan, math.inf, np.ones(2)),
        "diffusion": (-0.1, math.nan, np.ones(3), np.array([0.1, -0.1]), np.eye(2)),
    },
    sgd_ensemble: {
        **BAD_RUN,
        "learning_rate": (0.0, -0.1, math.nan, math.inf),
        "batch_size": (0, 1.5),
        "data": (np.zeros((0, 2)), 1.0),
    },
    histogram: {"walkers": (np.zeros((3, 1)), np.zeros(3), np.full((3, 2), math.nan))},
    l1_distance: {
        "walkers": (np.zeros((3, 3)), np.zeros((0, 2)), np.full((3, 2), math.inf)),
        "density": BAD_DENSITIES,
        "bins": (4, 0, -1, 2.0, (2, 3), (2,), (2, 2, 2), "22"),
    },
    **{
        distance: {
            "walkers": (np.zeros((3, 1)), np.zeros(0), np.array([0.1, math.nan])),
            "edges": (
                np.zeros((5, 1)),
                np.array([0.0]),
                np.zeros(5),
                np.linspace(1, 0, 5),
                np.array([0, 0.2, math.nan, 0.8, 1]),
            ),
            "density": (np.ones(5), np.full(4, 1.00001), np.array([5.0, -1, 0, 0])),
        }
        for distance in (wasserstein, kolmogorov_smirnov)
    },
}


@pytest.mark.parametrize(
    ("function", "name", "value"),
    [
        pytest.param(function, name, value, id=f"{function.__name__}-{name}-{i}")
        for function, arguments in BAD.items()
        for name, values in arguments.items()
        for i, value in enumerate(values)
    ],
)
def test_bad_arguments_are_named(function, name, value):
    function(**GOOD[function])
    with pytest.raises(ValueError, match=rf"(?s)^{name} must be .*, got "):
        function(**{**GOOD[function], name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("drift", lambda x: x[:, :1]),
        ("drift", lambda x: 1.0),
        ("diffusion", lambda x: x[:, :1]),
        ("diffusion", lambda x: np.ones(len(x))),
        ("diffusion", lambda x: np.ones((len(x), 2, 1))),
    ],
)
def test_functions_of_the_equation_must_keep_the_shape(name, value):
    shape = r"of shape \(6, 2\)( or \(6, 2, 2\))?, got "
    with pytest.raises(ValueError, match=f"{name} must return an array {shape}"):
        langevin_ensemble(**{**LANGEVIN, name: value})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("gradient", lambda w, batch: w[:, :1], "gradient must return an array"),
        ("data", lambda rng, n, B: np.ones((n, B + 1, 2)), r"data must return samples"),
        ("data", lambda rng, n, B: np.ones((B, n, 2)), r"shape \(6, 2, \.\.\.\), got"),
    ],
)
def test_functions_of_sgd_must_keep_the_shape(name, value, message):
    with pytest.raises(ValueError, match=message):
        sgd_ensemble(**{**SGD, name: value})


@pytest.mark.parametrize(
    ("diffusion", "message"),
    [
        (lambda x: x, "diffusion must be >= 0, got -1"),
        ([[1.0, 0.5], [0.4, 1.0]], "diffusion must be symmetric"),
        ([[1e-14, 0.5e-14], [0.4e-14, 1e-14]], "diffusion must be symmetric"),
        ([[1.0, 2.0], [2.0, 1.0]], "diffusion must be positive semidefinite"),
        ([[0.0, 1.0], [1.0, 1.0]], "diffusion must be positive semidefinite"),
        ([[1.0, 0.0], [0.0, -1.0]], "diffusion must be positive semidefinite"),
        ([[-1.0, 0.0], [0.0, 1.0]], "diffusion must be positive semidefinite"),
    ],
)
def test_a_diffusion_that_is_none_is_refused(diffusion, message):
    x0 = np.array([[1.0, 1.0], [-1.0, 1.0]])

    def field(x):
        # The matrix is wrong for the second walker only.
        return np.stack([np.eye(2), np.array(diffusion)])

    chosen = diffusion if callable(diffusion) else field
    with pytest.raises(ValueError, match=message):
        langevin_ensemble(still, chosen, x0, 0.1, 1, 0)


def test_rounding_below_zero_is_no_error():
    density = np.array([1.0 + 1e-9, -1e-9, 0.0, 0.0]) / 0.25
    edges, walkers = np.linspace(0, 1, 5), np.linspace(0.01, 0.24, 20)
    for distance in (wasserstein, kolmogorov_smirnov):
        assert 0 < distance(walkers, edges, density).value < 0.1
    result = l1_distance(walkers[:, np.newaxis], Grid(0, 1, 4), density)
    assert result.value == pytest.approx(2e-9, abs=1e-12)
    assert result.floor == 0.0
