"""Clouds of walkers and of networks under SGD, and their distance from a density."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.harness import Case, Peer, Run, Target
from benchmarks.remote import Elsewhere
from fpbook.langevin import langevin_ensemble, sgd_ensemble, wasserstein

Array = NDArray[np.float64]

STEPS, DT, D, SEED = 100, 0.01, 0.05, 0
START = np.array([1.0, -0.5])
PULL = np.array([1.0, 2.0])
"""Rates of the two weights towards 0."""

# --- walkers ------------------------------------------------------------------------


def _pull(w: Array) -> Array:
    return -PULL * w


def _cloud(walkers: int) -> Run:
    start = np.tile(START, (walkers, 1))
    return lambda: langevin_ensemble(_pull, D, start, DT, STEPS, SEED)[0]


def _plain_cloud(walkers: int) -> Run:
    start = np.tile(START, (walkers, 1))

    def run() -> Array:
        rng = np.random.default_rng(SEED)
        w = start
        for _ in range(STEPS):
            noise = rng.standard_normal(w.shape)
            w = w + _pull(w) * DT + np.sqrt(2 * D * DT) * noise
        return w

    return run


def _torch_cloud(walkers: int) -> Run:
    """In place, in single precision: the fastest way on one core that is known."""
    start = torch.tensor(START, dtype=torch.float32).repeat(walkers, 1)
    shrink = torch.tensor(1 - PULL * DT, dtype=torch.float32)

    def run() -> Array:
        generator = torch.Generator().manual_seed(SEED)
        w, noise = start.clone(), torch.empty_like(start)
        for _ in range(STEPS):
            noise.normal_(0, (2 * D * DT) ** 0.5, generator=generator)
            w.mul_(shrink).add_(noise)
        return w.numpy().astype(float)

    return run


def _torchsde_cloud(walkers: int) -> Run:
    import torchsde

    class Equation(torch.nn.Module):
        noise_type, sde_type = "diagonal", "ito"

        def f(self, _: Any, w: torch.Tensor) -> torch.Tensor:
            return -pull * w

        def g(self, _: Any, w: torch.Tensor) -> torch.Tensor:
            return torch.full_like(w, (2 * D) ** 0.5)

    pull = torch.tensor(PULL)
    start = torch.tensor(START).repeat(walkers, 1)
    times = torch.tensor([0.0, STEPS * DT])
    equation = Equation()

    def run() -> Array:
        torch.manual_seed(SEED)
        with torch.no_grad():
            w = torchsde.sdeint(equation, start, times, dt=DT, method="euler")
        result: Array = w[-1].numpy()
        return result

    return run


def _inputs(walkers: int) -> dict[str, Any]:
    return {
        "start": np.tile(START, (walkers, 1)),
        "pull": PULL,
        "diffusion": D,
        "dt": DT,
        "steps": STEPS,
        "seed": SEED,
    }


def _misfit_of_cloud(w: Array, _: int) -> float:
    """Largest error of means and variances, in units of the standard deviation.

    A walker of Euler and Maruyama is normal with known mean and variance.
    """
    shrink = 1 - PULL * DT
    mean = START * shrink**STEPS
    variance = 2 * D * DT * (1 - shrink ** (2 * STEPS)) / (1 - shrink**2)
    of_mean = np.abs(w.mean(axis=0) - mean) / np.sqrt(variance)
    of_variance = np.abs(w.var(axis=0) / variance - 1) / 2**0.5
    return float(max(of_mean.max(), of_variance.max()))


# --- networks under SGD -------------------------------------------------------------

RATE, BATCH, SGD_STEPS, LABEL_NOISE = 0.05, 4, 100, 0.5


def _draw(rng: np.random.Generator, networks: int, batch: int) -> Array:
    return rng.standard_normal((networks, batch, 2))


def _slope(w: Array, pairs: Array) -> Array:
    """Gradient of the fit of one weight to the target 0 with label noise."""
    x, noise = pairs[..., 0], pairs[..., 1]
    gradient: Array = ((w * x - LABEL_NOISE * noise) * x).mean(axis=1, keepdims=True)
    return gradient


def _networks(count: int) -> Run:
    start = np.ones((count, 1))
    return lambda: sgd_ensemble(_slope, _draw, start, RATE, BATCH, SGD_STEPS, SEED)[0]


def _plain_networks(count: int) -> Run:
    def run() -> Array:
        rng = np.random.default_rng(SEED)
        w = np.ones((count, 1))
        for _ in range(SGD_STEPS):
            w = w - RATE * _slope(w, _draw(rng, count, BATCH))
        return w

    return run


def _torch_networks(count: int) -> Run:
    """Single precision, with the gradient written out."""

    def run() -> Array:
        generator = torch.Generator().manual_seed(SEED)
        w = torch.ones(count, 1)
        x, noise = torch.empty(2, count, BATCH)
        for _ in range(SGD_STEPS):
            x.normal_(generator=generator)
            noise.normal_(generator=generator)
            error = w * x - LABEL_NOISE * noise
            w -= RATE * (error * x).mean(dim=1, keepdim=True)
        return w.numpy().astype(float)

    return run


def _misfit_of_networks(w: Array, count: int) -> float:
    """Errors of mean and second moment, whose recursions close; in their spread."""
    mean, second = 1.0, 1.0
    # The mean of x^2 over a minibatch has variance 2 / B.
    growth = (1 - RATE) ** 2 + 2 * RATE**2 / BATCH
    for _ in range(SGD_STEPS):
        mean *= 1 - RATE
        second = growth * second + RATE**2 * LABEL_NOISE**2 / BATCH
    spread = (second - mean**2) ** 0.5
    return float(
        max(abs(w.mean() - mean) / spread, abs((w**2).mean() / second - 1) / 2**0.5)
    )


# --- a distance ---------------------------------------------------------------------

CELLS = 100


def _quantiles(walkers: int) -> tuple[Array, Array, Array]:
    """Walkers at the quantiles of an even density, moved up by a tenth."""
    positions = (np.arange(walkers) + 0.5) / walkers + 0.1
    edges = np.linspace(0, 1, CELLS + 1)
    return np.random.default_rng(SEED).permutation(positions), edges, np.ones(CELLS)


def _distance(walkers: int) -> Run:
    cloud = _quantiles(walkers)
    return lambda: wasserstein(*cloud).value


def _scipy_distance(walkers: int) -> Run:
    """The density as the middles of many more cells, which errs by less than asked."""
    from scipy.stats import wasserstein_distance

    positions, edges, _ = _quantiles(walkers)
    middles = (np.arange(CELLS * 100) + 0.5) / (CELLS * 100) * (edges[-1] - edges[0])
    return lambda: wasserstein_distance(positions, middles)


def _distance_by_sums(walkers: int) -> Run:
    """Difference of the distribution functions on a fine grid."""
    positions, _, _ = _quantiles(walkers)
    points = np.linspace(0, 1.2, 20_001)

    def run() -> float:
        staircase = np.searchsorted(np.sort(positions), points, "right") / walkers
        gap = np.abs(staircase - np.clip(points, 0, 1))
        return float(np.trapezoid(gap, points))

    return run


def _misfit_of_distance(distance: float, _: int) -> float:
    # The walkers are a tenth above the density; the staircase does not cross it.
    return abs(distance - 0.1)


CASES = (
    Case(
        name="walkers of two weights",
        module="langevin",
        kernel="langevin_ensemble",
        measures=f"An Ornstein-Uhlenbeck process of two weights, {STEPS} steps.",
        size_name="walkers",
        sizes=(1_000, 3_000, 10_000, 30_000, 100_000),
        setup=_cloud,
        exact="mean and variance of Euler's recursion",
        error_name="standard deviations",
        error=_misfit_of_cloud,
        # Four standard errors of the largest of four numbers.
        tolerance=4 / 100_000**0.5,
        order=0.5,
        reference=Peer("numpy, new arrays in every step", _plain_cloud),
        peers=(
            Peer("torch, float32 in place", _torch_cloud),
            Peer("torchsde, Euler", _torchsde_cloud, "torchsde", 10_000),
            Peer("diffrax, Euler", Elsewhere("langevin", _inputs), "diffrax"),
        ),
        # A tenth of the target for a million.
        target=Target(size=100_000, seconds=0.8),
    ),
    Case(
        name="networks under SGD",
        module="langevin",
        kernel="sgd_ensemble",
        measures=f"Linear networks of one weight, {SGD_STEPS} minibatches of {BATCH}.",
        size_name="networks",
        sizes=(1_000, 3_000, 10_000, 30_000, 100_000),
        setup=_networks,
        exact="recursions of the first two moments",
        error_name="standard deviations",
        error=_misfit_of_networks,
        tolerance=4 / 100_000**0.5,
        order=0.5,
        reference=Peer("numpy, all networks at once", _plain_networks),
        peers=(Peer("torch, float32", _torch_networks),),
    ),
    Case(
        name="distance of walkers",
        module="langevin",
        kernel="wasserstein",
        measures="Distance of walkers in one dimension from a density, and its floor.",
        size_name="walkers",
        sizes=(1_000, 10_000, 30_000, 100_000, 300_000, 1_000_000),
        setup=_distance,
        exact="an even density that is moved by a tenth",
        error_name="error",
        error=_misfit_of_distance,
        tolerance=1e-4,
        reference=Peer("numpy, sums on a fine grid", _distance_by_sums),
        peers=(Peer("scipy, without the floor", _scipy_distance),),
    ),
)
