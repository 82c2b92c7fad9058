r"""Power laws in the width: measured over an ensemble, fitted, with an interval.

A quantity that scales as :math:`n^s` with the width :math:`n` is measured on several
networks at each of several widths (:func:`over_widths`); the slope :math:`s` of a
statistic of it, such as the median, is fitted on logarithmic axes, and the networks are
drawn again and again from those measured to see how well it is known (:func:`slope`).
Medians and other quantiles, not moments: these are what the stochastic big-O of the
theory bounds, and rare networks do not rule them.

``jobs`` other than 1 spreads an ensemble over processes with joblib, or over a cluster
whose ``dask.distributed`` client is open, ::

    with joblib.parallel_config(backend="dask"):
        values = over_widths(measure, [64, 256, 1024], networks=20, jobs=-1)

Source: the bootstrap of Efron (1979); used in the chapters of Part II.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import ArrayLike, NDArray

from fpbook import progress
from fpbook.validation import (
    LARGEST,
    require_callable,
    require_integer,
    require_jobs,
    require_real,
    require_seed,
)

Array = NDArray[np.float64]
Measure = Callable[[int, list[int]], Any]


def over_widths(
    measure: Measure,
    widths: Sequence[int],
    networks: int,
    *,
    seed: int = 0,
    chunk: int = 8,
    jobs: int = 1,
) -> Array:
    """Measure something on several networks of each of several widths.

    Parameters
    ----------
    measure
        ``measure(width, seeds)`` returns numbers for networks of that width drawn from
        the seeds, an array of shape (len(seeds), ...). NaN is passed on.
    widths
        Widths, shape (W,).
    networks
        Networks per width, N >= 1. No two of all W x N have the same seed.
    seed
        Seed of the seeds, >= 0.
    chunk
        Networks of one width that are measured together, >= 1.
    jobs
        1 for this process, n for n processes, -1 for all there are. The result does not
        depend on it.

    Returns
    -------
    array
        Shape (W, N, ...).

    Raises
    ------
    ValueError
        If an argument is out of range or ``measure`` returns another shape.
    """
    require_callable(measure=measure)
    require_integer(1, networks=networks, chunk=chunk)
    require_seed(seed)
    widths = widths if isinstance(widths, Sequence) else np.atleast_1d(widths).tolist()
    if not widths:
        raise ValueError("widths must hold at least one width, got none")
    for width in widths:
        require_integer(1, widths=width)
    require_jobs(jobs)
    seeds = _distinct_seeds(seed, len(widths) * networks).reshape(-1, networks)
    tasks = [
        (measure, int(width), row[start : start + chunk].tolist())
        for width, row in zip(widths, seeds, strict=True)
        for start in range(0, networks, chunk)
    ]
    pieces = []
    with progress.bar(len(tasks), "networks") as bar:
        workers = Parallel(n_jobs=jobs, return_as="generator")
        found = (
            (_measured(*task) for task in tasks)
            if jobs == 1
            else workers(delayed(_measured)(*task) for task in tasks)
        )
        for piece in found:
            pieces.append(piece)
            bar.update(1)
    shapes = {piece.shape[1:] for piece in pieces}
    if len(shapes) > 1:
        raise ValueError(
            "measure must return arrays of one shape (len(seeds), ...) at every width, "
            f"got {sorted(shapes)}"
        )
    values = np.concatenate(pieces)
    return values.reshape(len(widths), networks, *values.shape[1:])


def _distinct_seeds(seed: int, count: int) -> NDArray[Any]:
    drawn = np.random.SeedSequence(seed).generate_state(2 * count + 8, np.uint32)
    _, first = np.unique(drawn, return_index=True)
    return drawn[np.sort(first)[:count]]


def _measured(measure: Measure, width: int, seeds: list[int]) -> Array:
    values = require_real("what measure returns", measure(width, seeds))
    if values.shape[:1] != (len(seeds),):
        raise ValueError(
            f"measure must return shape ({len(seeds)}, ...) for {len(seeds)} seeds at "
            f"width {width}, got {values.shape}"
        )
    return values


class Slope(NamedTuple):
    """A fitted power.

    Attributes
    ----------
    value
        The power.
    low, high
        Interval that holds 95 % of the powers of resampled ensembles.
    """

    value: float
    low: float
    high: float

    @property
    def error(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2


RESAMPLINGS = 400


def slope(
    widths: ArrayLike,
    values: ArrayLike,
    statistic: Callable[..., Any] = np.median,
    seed: int = 0,
) -> Slope:
    r"""Power of the width with which a statistic of an ensemble scales.

    .. math:: \log \text{statistic} = s \log n + \text{const}

    by least squares; the interval comes from 400 bootstrap samples of the networks,
    drawn independently at each width. Source: the module's docstring.

    Parameters
    ----------
    widths
        Widths :math:`n > 0`, shape (W,), W >= 2.
    values
        Measured numbers, shape (W, N).
    statistic
        Called as ``statistic(values, axis=...)``; its absolute value is fitted.
    seed
        Seed of the bootstrap, >= 0.

    Returns
    -------
    Slope
        The power with its 95 % interval.

    Raises
    ------
    ValueError
        If a shape does not fit, a value is not finite, or the statistic is 0 or not
        finite somewhere.
    """
    require_callable(statistic=statistic)
    n, numbers = require_real("widths", widths), require_real("values", values)
    good = n.ndim == 1 and bool(np.all((n <= LARGEST) & (n > 0)))
    if not good or len(np.unique(n)) < 2:
        raise ValueError(
            f"widths must be at least two, > 0, finite and of shape (W,), got {n}"
        )
    if numbers.ndim != 2 or len(numbers) != len(n) or not numbers.size:
        raise ValueError(
            f"values must have shape ({len(n)}, N) with N >= 1 for {len(n)} widths, "
            f"got {numbers.shape}"
        )
    if not np.all(np.abs(numbers) <= LARGEST):
        raise ValueError("values must be finite, got NaN or infinity")
    require_seed(seed)

    def fit(of: Array) -> Array:
        found = require_real("what the statistic returns", statistic(of, axis=-1))
        size = np.abs(found)
        if np.shape(size) != of.shape[:-1]:
            raise ValueError("statistic must reduce the axis that it is called with")
        if not np.all(np.isfinite(size) & (size > 0)):
            raise ValueError("the statistic of values must be finite and not 0")
        centred = np.log(n) - np.log(n).mean()
        return np.asarray(np.log(size) @ centred / (centred @ centred))

    rng = np.random.default_rng(seed)
    drawn = rng.integers(numbers.shape[1], size=(RESAMPLINGS, *numbers.shape))
    resampled = np.take_along_axis(numbers[None], drawn, axis=-1)
    low, high = np.percentile(fit(resampled), [2.5, 97.5])
    return Slope(float(fit(numbers)), float(low), float(high))
