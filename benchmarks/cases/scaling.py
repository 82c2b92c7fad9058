"""Power laws in the width, fitted to ensembles and resampled."""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.harness import Case, Peer, Run
from fpbook.scaling import RESAMPLINGS, slope

Array = NDArray[np.float64]

WIDTHS = np.array([64.0, 128.0, 256.0, 512.0])
POWER, SEED = -0.5, 0


def _values(networks: int) -> Array:
    """An exact power law of the medians, with the same scatter at each width."""
    scatter = np.exp(np.random.default_rng(SEED).standard_normal(networks))
    return np.multiply.outer(WIDTHS**POWER, scatter)


def _fit(sizes: Array) -> Array:
    centred = np.log(WIDTHS) - np.log(WIDTHS).mean()
    return np.asarray(np.log(sizes) @ centred / (centred @ centred))


def _fitted(networks: int) -> Run:
    values = _values(networks)
    return lambda: np.array(slope(WIDTHS, values))


def _resampled_one_by_one(networks: int) -> Run:
    values = _values(networks)

    def run() -> Array:
        rng = np.random.default_rng(SEED)
        drawn = []
        for _ in range(RESAMPLINGS):
            medians = [np.median(rng.choice(row, networks)) for row in values]
            drawn.append(_fit(np.array(medians)))
        low, high = np.percentile(drawn, [2.5, 97.5])
        return np.array([_fit(np.median(values, axis=1)), low, high])

    return run


def _resampled_by_scipy(networks: int) -> Run:
    values = _values(networks)

    def power(*rows: Array, axis: int = -1) -> Array:
        return _fit(np.stack([np.median(row, axis=axis) for row in rows], axis=-1))

    def run() -> Array:
        found = stats.bootstrap(
            tuple(values),
            power,
            n_resamples=RESAMPLINGS,
            vectorized=True,
            method="percentile",
            rng=np.random.default_rng(SEED),
        )
        interval = found.confidence_interval
        return np.array([power(*values), interval.low, interval.high])

    return run


def _error(found: Array, _: int) -> float:
    """Of the power; infinite if the interval does not hold it."""
    value, low, high = found
    return abs(value - POWER) if low < POWER < high else np.inf


CASES = (
    Case(
        name="power of the width",
        module="scaling",
        kernel="slope",
        measures=f"A slope of medians at four widths, and {RESAMPLINGS} resamplings.",
        size_name="networks",
        sizes=(100, 300, 1_000, 3_000, 10_000),
        setup=_fitted,
        exact="the power law that the medians follow",
        error_name="error",
        error=_error,
        tolerance=1e-13,
        reference=Peer("numpy, one by one", _resampled_one_by_one),
        peers=(Peer("scipy, bootstrap", _resampled_by_scipy),),
    ),
)
