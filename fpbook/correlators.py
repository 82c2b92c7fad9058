r"""Correlators of one weight during training, by the Fokker-Planck equation.

.. math:: G_n(t) = \langle W(t)^n \rangle, \qquad dW = -L'(W)\, dt
    + \sqrt{2T}\, dB, \qquad L = \sum_k \frac{\lambda_k}{k} W^k, \qquad W(0) = 0

Made for derivatives with respect to couplings and times: steps and cells depend
smoothly on all arguments, and the leading error is extrapolated away.

Source: derived in the chapter *From SGD to Fokker-Planck*; Richardson's extrapolation.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpbook.fokker_planck import FokkerPlanck, Grid
from fpbook.time_stepping import lu_step
from fpbook.validation import (
    require_all_positive,
    require_finite,
    require_integer_between,
    require_integers,
    require_positive,
    require_times,
    require_type,
)

Array = NDArray[np.float64]

CELLS = 201
STEPS = 20
"""Of the coarser of two runs; the finer has three times as many of both."""
STAGES = 5
"""Each four times as long as all before it: for a start as well resolved as the end."""
EXPONENT = 40.0
"""Where the loss is this many temperatures above its minimum, no mass is left."""
SPREADS = 7.0
LOST = 1e-8
HIGHEST_POWER = 100
"""Of the weight in a loss; the roots of its polynomial are sought."""


def correlators(
    couplings: Mapping[int, float],
    temperature: float,
    times: ArrayLike,
    orders: Sequence[int],
    *,
    half_width: float | None = None,
) -> Array:
    r"""Moments of a weight during training, from the Fokker-Planck equation.

    .. math:: G_n(t) = \langle W(t)^n \rangle, \qquad dW = -L'(W)\, dt
        + \sqrt{2T}\, dB, \qquad L = \sum_k \frac{\lambda_k}{k} W^k, \qquad W(0) = 0

    Every time is a run of its own, on two grids and with two step lengths; the leading
    error, of second order in both, is extrapolated away. Relative errors of
    :math:`G_2` to :math:`G_6` are about 1e-6 in a loss that confines the weight. They
    are larger, 2e-4 for :math:`G_6`, while a cloud runs down from a maximum of the
    loss and is twice as wide as diffusion alone would make it. Source: derived in the
    chapter *From SGD to Fokker-Planck*.

    Parameters
    ----------
    couplings
        :math:`\lambda_k` by their powers :math:`k \ge 1`. Empty for free diffusion.
    temperature
        :math:`T > 0`.
    times
        Training times, > 0 and increasing, shape (m,).
    orders
        Powers :math:`n \ge 0`.
    half_width
        Half the width of the box, > 0. None chooses it for every time.

    Returns
    -------
    array
        Correlators, (m, len(orders)).

    Raises
    ------
    ValueError
        If an argument is out of range, the loss is not bounded from below, or mass
        reaches a wall of the given box.
    TypeError
        If ``couplings`` is no mapping.
    FloatingPointError
        If mass reaches a wall of a chosen box: the loss is too steep for the cells.
    """
    losses = checked_couplings(couplings)
    require_positive(temperature=temperature)
    moments = require_times(times)
    require_all_positive(times=moments)
    require_integers("orders", orders, 0)
    if half_width is not None:
        require_positive(half_width=half_width)
    result = np.empty((len(moments), len(orders)))
    for row, time in enumerate(moments):
        box = half_width or reach(losses, temperature, float(time))
        (coarse, lost), (fine, _) = (
            _moments(losses, temperature, float(time), orders, box, refinement)
            for refinement in (1, 3)
        )
        if lost > LOST and half_width is None:
            raise FloatingPointError(
                f"a mass of {lost:.1g} has reached the walls of a box of half-width "
                f"{box:.3g} at time {time:g}: the loss is too steep for the cells"
            )
        if lost > LOST:
            raise ValueError(
                f"half_width must hold the density, a mass of {lost:.1g} is at the "
                f"walls of a box of half-width {box:g} at time {time:g}"
            )
        result[row] = fine + (fine - coarse) / 8
    return result


def checked_couplings(couplings: Mapping[int, float]) -> dict[int, float]:
    require_type(Mapping, couplings=couplings)
    for power, value in couplings.items():
        require_integer_between(1, HIGHEST_POWER, couplings=power)
        require_finite(couplings=value)
    losses = {int(k): float(v) for k, v in couplings.items() if v != 0}
    if losses and (max(losses) % 2 or losses[max(losses)] < 0):
        raise ValueError(
            "couplings must make a loss that is bounded from below, of even degree "
            f"with a positive leading coupling, got {couplings}"
        )
    return losses


def reach(losses: dict[int, float], temperature: float, time: float) -> float:
    """Where no mass arrives: too far to diffuse, or too high up."""
    if not losses:
        return SPREADS * math.sqrt(2 * temperature * time)
    # The loss as a polynomial; its minimum is at a root of the derivative.
    level = np.polynomial.Polynomial(
        [losses.get(k, 0.0) / max(k, 1) for k in range(max(losses) + 1)]
    )
    stationary = level.deriv().roots()
    real = stationary[np.abs(stationary.imag) < 1e-9 * (1 + np.abs(stationary))].real
    lowest = min(level(0.0), *level(real))
    crossing = (level - lowest - EXPONENT * temperature).roots()
    high = float(np.abs(crossing[np.abs(crossing.imag) < 1e-9 * abs(crossing)]).max())
    # Inside, the drift away from 0 is at most |L'(0)| + b |w|, with the largest growth
    # rate b: not farther than an unstable Gaussian spreads.
    bend = level.deriv(2)(np.linspace(-high, high, 401))
    growth = max(0.0, -float(bend.min()))
    if growth * time > 20:
        return high
    variance, pushed = 2 * temperature * time, time
    if growth * time > 1e-6:
        variance = temperature * math.expm1(2 * growth * time) / growth
        pushed = math.expm1(growth * time) / growth
    spread = SPREADS * math.sqrt(variance) + abs(float(level.deriv()(0))) * pushed
    return min(high, spread)


def _moments(
    losses: dict[int, float],
    temperature: float,
    time: float,
    orders: Sequence[int],
    half_width: float,
    refinement: int,
) -> tuple[Array, float]:
    """Moments, and the largest mass in the outermost cells."""
    cells = refinement * CELLS
    grid = Grid(-half_width, half_width, cells)
    equation = FokkerPlanck(
        grid,
        temperature,
        potential=lambda w: sum(
            (v / k * w[:, 0] ** k for k, v in losses.items()), np.zeros(len(w))
        ),
    )
    density = np.zeros(cells)
    density[cells // 2] = 1.0
    (mass,) = march(equation.generator, density, [time], refinement * STEPS)
    powers = [mass @ grid.centers[0] ** order for order in orders]
    return np.array(powers), float(mass[0] + mass[-1])


def march(
    generator: Any, mass: Array, times: Sequence[float], steps: int
) -> Iterator[Array]:
    """Masses at increasing times; a start in one cell asks for shorter steps first."""
    time = 0.0
    stages = [times[0] / 4.0**k for k in range(STAGES - 1, 0, -1)]
    for moment in [*stages, *times]:
        step = lu_step(generator, (moment - time) / steps)
        for number in range(steps):
            mass = step(mass, number < 2)
        time = moment
        if moment >= times[0]:
            yield mass
