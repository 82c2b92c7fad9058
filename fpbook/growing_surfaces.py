r"""Surfaces that grow by chance: simulations in the KPZ class, and one beside it.

Heights :math:`h(x, t)` on a line of sites, one column each, at integer steps:

- :func:`last_passage`, the heaviest directed path through independent exponential
  weights of mean 1. Exactly solved, cheap, and free of parameters: the reference.
- :func:`directed_polymer`, the logarithm of a sum over all directed paths: the
  stochastic heat equation in discrete time, last passage at a finite temperature.
- :func:`kpz_equation`, the equation of Kardar, Parisi and Zhang on a lattice.
- :func:`random_environment_walk`, a walk whose environment is random in space and time.
  Its noise conserves probability, which changes the answer.

Simulations are functions of their seed alone. ``samples`` runs independent surfaces
side by side; more of them, on more cores or on a cluster, are calls with other seeds::

    runs = Parallel(n_jobs=-1)(
        delayed(last_passage)(2**18, 1024, seed) for seed in range(100)
    )

with joblib, also within ``joblib.parallel_config(backend="dask")``.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpbook import progress
from fpbook.validation import (
    require_choice,
    require_finite,
    require_flag,
    require_integer,
    require_non_negative,
    require_positive,
    require_real,
    require_seed,
    require_snapshots,
    require_times,
)

Array = NDArray[np.float64]

# --- last passage -------------------------------------------------------------------


def last_passage(
    width: int,
    steps: int,
    seed: int,
    geometry: str = "flat",
    times: Sequence[int] | None = None,
    *,
    samples: int | None = None,
) -> Array:
    r"""Last-passage times with exponential weights: a surface in the KPZ class.

    .. math:: h_{t+1}(x) = \max\{h_t(x),\, h_t(x-1)\} + \omega_{t+1}(x), \qquad
        \omega \sim \mathrm{Exp}(1)

    Site :math:`x` moves half a column to the right in every step; results are in the
    frame that moves along, so that a column is one place. For large :math:`N`

    .. math:: h = 4N + (c N)^{1/3} \chi, \qquad
        \begin{cases}
        c = 4, & N = t/2, & \chi \sim \mathrm{GOE}: \text{flat} \\
        c = 16, & N = (t+1)/2, & \chi \sim \mathrm{GUE}:
        \text{point, at the centre} \\
        c = 16, & N = t/2, & \chi \sim \text{Baik-Rains}:
        \text{stationary, } h_t - h_0
        \end{cases}

    Source: Johansson, Commun. Math. Phys. 209, 437 (2000), for the point; Praehofer and
    Spohn, Phys. Rev. Lett. 84, 4882 (2000), for all three.

    Parameters
    ----------
    width
        Number of sites of the result, >= 1. Flat and stationary surfaces are rings of
        that many; keep it above 50 times :math:`t^{2/3}`, or the ring is felt.
    steps
        Number of steps, >= 0.
    seed
        Seed of all random numbers, >= 0.
    geometry
        "flat": zero at the start. "point": all paths start at one site, after 2N - 1
        steps those to the centre span a square of N x N weights; the ``width`` sites
        around the centre, column width // 2, are returned, minus infinity where no path
        of that length ends. "stationary": the start has the increments that growth
        leaves unchanged in law, differences of two exponentials of mean 2; the height
        differs across the seam of the ring.
    times
        Step counts to return, increasing, from 0 to ``steps``. None for ``steps`` only.
    samples
        Number of independent surfaces. None for one, without an axis for it.

    Returns
    -------
    array
        Heights, (len(times), width) or (samples, len(times), width).

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    require_integer(1, width=width, samples=1 if samples is None else samples)
    require_integer(0, steps=steps)
    require_seed(seed)
    require_choice(("flat", "point", "stationary"), geometry=geometry)
    kept = require_snapshots(times, steps, "times")
    rng = np.random.default_rng(seed)
    many = samples or 1
    if geometry == "point":
        heights = _from_a_point(width, steps, many, rng, kept)
    else:
        heights = _from_a_line(width, steps, many, rng, kept, geometry)
    return heights[0] if samples is None else heights


# Sites are the first axis of a state and samples the second: slices of sites are
# contiguous, and neither many sites nor many samples make a loop in Python.


def _from_a_line(
    width: int,
    steps: int,
    samples: int,
    rng: np.random.Generator,
    kept: list[int],
    geometry: str,
) -> Array:
    height = np.zeros((width, samples))
    tilt = np.zeros(samples)
    if geometry == "stationary":
        pair = rng.standard_exponential((2, width, samples))
        increments = 2 * (pair[0] - pair[1])
        height[1:] = np.cumsum(increments[:-1], axis=0)
        tilt = increments.sum(axis=0)
    weights, grown = np.empty_like(height), np.empty_like(height)
    result = np.empty((samples, len(kept), width))
    with progress.bar(steps, "last passage") as bar:
        for step in range(steps + 1):
            if step:
                np.maximum(height[1:], height[:-1], out=grown[1:])
                np.maximum(height[0], height[-1] - tilt, out=grown[0])
                grown += rng.standard_exponential(out=weights)
                height, grown = grown, height
                bar.update(1)
            if step in kept:
                result[:, kept.index(step)] = _in_moving_frame(height, tilt, step)
    return result


def _in_moving_frame(height: Array, tilt: Array, step: int) -> Array:
    """Columns x + step / 2, across the seam with the tilt of every turn."""
    turns, columns = np.divmod(np.arange(len(height)) + step // 2, len(height))
    moved: Array = height[columns] + turns[:, None] * tilt
    return moved.T


def _from_a_point(
    width: int, steps: int, samples: int, rng: np.random.Generator, kept: list[int]
) -> Array:
    # The first weight is that of site 0; after ``step`` of them sites 0 to step - 1 are
    # reached. Only those that can still reach the window at the last step are needed.
    # Row 0 of a state stands for a site that no path leads to.
    def window(step: int) -> tuple[int, int]:
        first = max(step - 1, 0) // 2 - width // 2
        return first, first + width

    begin, end = window(steps)
    height = np.full((steps + 2, samples), -np.inf)
    height[1] = 0.0
    weights, grown = np.empty_like(height), np.full_like(height, -np.inf)
    result = np.full((samples, len(kept), width), -np.inf)
    with progress.bar(steps, "last passage") as bar:
        for step in range(steps + 1):
            if step:
                needed = max(0, begin - (steps - step))
                new = slice(needed + 1, min(step, end) + 1)
                old = slice(new.start - 1, new.stop - 1)
                rng.standard_exponential(out=weights[new])
                np.maximum(height[new], height[old], out=grown[new])
                grown[new] += weights[new]
                height, grown = grown, height
                bar.update(1)
            if step in kept:
                first, last = window(step)
                sites = np.arange(max(first, 0), min(last, max(step, 1)))
                result[:, kept.index(step), sites - first] = height[sites + 1].T
    return result


# --- polymers and the equation itself -----------------------------------------------


def directed_polymer(
    width: int,
    steps: int,
    seed: int,
    strength: float,
    times: Sequence[int] | None = None,
    *,
    samples: int | None = None,
) -> Array:
    r"""Free energy of a directed polymer: the stochastic heat equation, step by step.

    .. math:: Z_{t+1}(x) = \tfrac12 \bigl[ Z_t(x) + Z_t(x-1) \bigr]\,
        e^{b \xi - b^2/2}, \qquad h = \log Z, \qquad Z_0 = 1,

    with standard normal :math:`\xi`, so that :math:`\langle Z \rangle = 1`. It is a
    population of walkers that is multiplied by chance, or an Ito step of
    :math:`\partial_t Z = \tfrac18 \partial_x^2 Z + b\, \xi Z` in the moving frame of
    :func:`last_passage`, to which it tends for large :math:`b`, with normal weights.
    Source: Huse, Henley and Fisher, Phys. Rev. Lett. 55, 2924 (1985).

    Parameters
    ----------
    width
        Number of sites of the ring, >= 1.
    steps
        Number of steps, >= 0.
    seed
        Seed of all random numbers, >= 0.
    strength
        :math:`b \ge 0`, the noise of a step.
    times
        Step counts to return, increasing, from 0 to ``steps``. None for ``steps`` only.
    samples
        Number of independent surfaces. None for one, without an axis for it.

    Returns
    -------
    array
        :math:`h`, (len(times), width) or (samples, len(times), width).

    Raises
    ------
    ValueError
        If an argument is out of range.
    FloatingPointError
        If the heights of one surface span more than the range of numbers, 600, or the
        noise of sixteen steps is beyond it.
    """
    require_integer(1, width=width, samples=1 if samples is None else samples)
    require_integer(0, steps=steps)
    require_seed(seed)
    require_non_negative(strength=strength)
    kept = require_snapshots(times, steps, "times")
    rng = np.random.default_rng(seed)
    partition = np.ones((width, samples or 1))
    # Half of the sum, and the mean of the exponential, are the same for all sites.
    drift = -(float(strength) * float(strength)) / 2 - math.log(2)
    noise, moved = np.empty_like(partition), np.empty_like(partition)
    offset = np.zeros(samples or 1)
    result = np.empty((samples or 1, len(kept), width))
    with progress.bar(steps, "directed polymer") as bar:
        for step in range(steps + 1):
            if step:
                np.add(partition[1:], partition[:-1], out=moved[1:])
                np.add(partition[0], partition[-1], out=moved[0])
                rng.standard_normal(out=noise)
                noise *= strength
                with np.errstate(over="ignore", invalid="ignore"):
                    moved *= np.exp(noise, out=noise)
                partition, moved = moved, partition
                offset += drift
                bar.update(1)
            if step % RESCALE == 0 or step in kept:
                largest = partition.max(axis=0)
                with np.errstate(divide="ignore", invalid="ignore"):
                    partition /= largest
                    offset += np.log(largest)
                if not np.all(partition > SMALLEST) or not np.all(np.isfinite(offset)):
                    raise FloatingPointError(
                        f"heights at step {step} span more than the range of numbers; "
                        "use a smaller strength"
                    )
            if step in kept:
                height = np.log(partition) + offset
                result[:, kept.index(step)] = np.roll(height, -(step // 2), axis=0).T
    return result[0] if samples is None else result


RESCALE = 16
"""Steps between two divisions by the largest number, far from overflow."""
SMALLEST = 1e-260


def kpz_equation(
    width: int,
    times: ArrayLike,
    seed: int,
    *,
    viscosity: float = 1.0,
    nonlinearity: float = 3.0,
    noise: float = 1.0,
    dt: float = 0.1,
    stationary: bool = False,
    samples: int | None = None,
) -> Array:
    r"""Heights that obey the KPZ equation on a lattice of unit spacing.

    .. math:: \dot h_j = \nu\, (h_{j+1} - 2 h_j + h_{j-1})
        + \tfrac{\lambda}{6} \bigl( d_j^2 + d_j d_{j-1} + d_{j-1}^2 \bigr)
        + \sqrt{2D}\, \dot B_j, \qquad d_j = h_{j+1} - h_j

    This form of the square leaves :math:`\sum_j d_j^2` alone, so that independent
    normal slopes of variance :math:`D/\nu` stay what they are whatever
    :math:`\lambda`. A step joins, symmetrically, the exact solution of the linear
    part with its noise, in Fourier space, and one Runge-Kutta step of fourth order of
    the square; its error is of second order in ``dt``. Source: Sasamoto and Spohn, J.
    Stat. Phys. 137, 917 (2009), for the square; the splitting is ours.

    Parameters
    ----------
    width
        Number of sites of the ring, >= 2.
    times
        Times to return, >= 0 and increasing, shape (m,).
    seed
        Seed of all random numbers, >= 0.
    viscosity, nonlinearity, noise
        :math:`\nu > 0`, :math:`\lambda`, of either sign, and :math:`D \ge 0`.
    dt
        Longest time step, > 0; it is shortened to divide the distance of two times.
    stationary
        Start with normal slopes of variance :math:`D/\nu`, and height 0 at the first
        site, instead of flat.
    samples
        Number of independent surfaces. None for one, without an axis for it.

    Returns
    -------
    array
        Heights, (m, width) or (samples, m, width).

    Raises
    ------
    ValueError
        If an argument is out of range.
    TypeError
        If ``stationary`` is not True or False.
    FloatingPointError
        If the heights are not finite: ``dt`` is too long.
    """
    require_integer(2, width=width)
    require_integer(1, samples=1 if samples is None else samples)
    require_seed(seed)
    require_positive(viscosity=viscosity, dt=dt)
    require_non_negative(noise=noise)
    require_finite(nonlinearity=nonlinearity)
    require_flag(stationary=stationary)
    moments = require_times(times)
    rng = np.random.default_rng(seed)
    height = np.zeros((samples or 1, width))
    if stationary:
        slopes = np.sqrt(noise / viscosity) * rng.standard_normal(height.shape)
        slopes -= slopes.mean(axis=1, keepdims=True)
        height[:, 1:] = np.cumsum(slopes[:, :-1], axis=1)
    result = np.empty((samples or 1, len(moments), width))
    time = 0.0
    with progress.bar(float(moments[-1]), "KPZ equation") as bar:
        for number, moment in enumerate(moments):
            count = math.ceil((moment - time) / dt * (1 - 1e-12))
            step = (moment - time) / max(count, 1)
            half, whole = (
                _linear_step(width, part * step, viscosity, noise) for part in (0.5, 1)
            )
            # The second half of a step and the first of the next are one whole step.
            with np.errstate(over="ignore", invalid="ignore"):
                for passed in range(count):
                    height = (whole if passed else half)(height, rng)
                    height = _grow(height, step, nonlinearity / 6)
                    bar.update(step)
                if count:
                    height = half(height, rng)
            if not np.all(np.isfinite(height)):
                raise FloatingPointError(
                    f"heights are not finite at time {moment:g}; use a shorter dt"
                )
            result[:, number] = height
            time = float(moment)
    return result[0] if samples is None else result


def _linear_step(
    width: int, dt: float, viscosity: float, noise: float
) -> Callable[[Array, np.random.Generator], Array]:
    """Edwards and Wilkinson's equation, solved exactly: damp each mode, add noise."""
    rate = viscosity * (2 - 2 * np.cos(2 * np.pi * np.arange(width // 2 + 1) / width))
    damping = np.exp(-rate * dt)
    # Mode 0, whose rate is zero, diffuses.
    variance = np.full(len(rate), 2 * noise * dt)
    variance[1:] = -noise * np.expm1(-2 * rate[1:] * dt) / rate[1:]
    spread = np.sqrt(variance)

    def step(height: Array, rng: np.random.Generator) -> Array:
        modes = np.fft.rfft(height) * damping
        modes += np.fft.rfft(rng.standard_normal(height.shape)) * spread
        return np.fft.irfft(modes, height.shape[-1])

    return step


def _grow(height: Array, dt: float, factor: float) -> Array:
    """One Runge-Kutta step of the square; ``factor`` is a sixth of the nonlinearity."""
    if factor == 0:
        return height

    def rate(h: Array) -> Array:
        d = np.roll(h, -1, axis=-1) - h
        before = np.roll(d, 1, axis=-1)
        growth: Array = factor * (d * (d + before) + before * before)
        return growth

    k1 = rate(height)
    k2 = rate(height + dt / 2 * k1)
    k3 = rate(height + dt / 2 * k2)
    k4 = rate(height + dt * k3)
    grown: Array = height + dt / 6 * (k1 + 2 * (k2 + k3) + k4)
    return grown


# --- noise that conserves probability -----------------------------------------------


def random_environment_walk(
    steps: int,
    seed: int,
    velocities: ArrayLike,
    times: Sequence[int] | None = None,
    *,
    samples: int = 1,
) -> Array:
    r"""Log-probability of a walk in an environment random in space and time.

    .. math:: P_{t+1}(x) = \omega_t(x-1)\, P_t(x-1) + (1 - \omega_t(x+1))\, P_t(x+1)

    with :math:`\omega` uniform on [0, 1], independent at every site and time, and the
    walk at 0 at the start: common noise moves all walkers at a site alike, and no
    probability is lost. Source: Barraquand and Corwin, Probab. Theory Relat. Fields
    167, 1057 (2017); for the probability of a point Thiery and Le Doussal, J. Phys. A
    50, 045001 (2017).

    Parameters
    ----------
    steps
        Number of steps, >= 0.
    seed
        Seed of all random numbers, >= 0.
    velocities
        Directions :math:`v = x/t` from -1 to 1, shape (n,). The site nearest to
        :math:`vt` that a walk of t steps can reach is read.
    times
        Step counts to return, increasing, from 0 to ``steps``. None for ``steps`` only.
    samples
        Number of independent environments, >= 1.

    Returns
    -------
    array
        :math:`\log P_t(vt)`, shape (samples, len(times), n).

    Raises
    ------
    ValueError
        If an argument is out of range.
    FloatingPointError
        If a probability is below the range of numbers, 1e-300.
    """
    require_integer(0, steps=steps)
    require_seed(seed)
    require_integer(1, samples=samples)
    v = np.atleast_1d(require_real("velocities", velocities))
    if v.ndim != 1 or not v.size or not np.all(np.abs(v) <= 1):
        raise ValueError(
            f"velocities must be from -1 to 1, shape (n,), got {velocities!r}"
        )
    kept = require_snapshots(times, steps, "times")
    rng = np.random.default_rng(seed)
    # Row k is the site x = 2k - t: k steps up.
    chance = np.zeros((steps + 2, samples))
    chance[0] = 1.0
    drawn = np.empty_like(chance)
    result = np.empty((samples, len(kept), len(v)))
    with progress.bar(steps, "random environment") as bar:
        for step in range(steps + 1):
            if step in kept:
                rows = np.rint((1 + v) * step / 2).astype(int)
                read = chance[rows]
                if not np.all(read > SMALLEST_CHANCE):
                    raise FloatingPointError(
                        f"a probability at step {step} is below {SMALLEST_CHANCE:g}; "
                        "use fewer steps or a smaller velocity"
                    )
                result[:, kept.index(step)] = np.log(read).T
            if step < steps:
                occupied = chance[: step + 1]
                up = rng.random(out=drawn[: step + 1])
                up *= occupied
                occupied -= up
                chance[1 : step + 2] += up
                bar.update(1)
    return result


SMALLEST_CHANCE = 1e-300
