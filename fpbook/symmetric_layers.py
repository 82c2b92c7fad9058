r"""Layers with a symmetry: what the counter term does to norms, angles and means.

Full-batch gradient descent (GD) with weight decay inside the gradient,
:math:`\theta \leftarrow \theta - \eta\,(\nabla L + \lambda\theta)` with time
:math:`t = \eta \cdot \text{step}`, is compared with the Equation of Motion
(:func:`~fpbook.equation_of_motion.equation_of_motion`) truncated after ``order``
counter terms: order 0 is gradient flow (GF), order :math:`p` is :math:`\text{EoM}_p`.
In signatures :math:`\eta` is ``learning_rate`` and :math:`\lambda` is
``weight_decay``; :math:`g` is the gradient of :math:`L` *without* decay.

**Translation invariance**, :math:`L(\theta + \alpha 1_A) = L(\theta)`: the mean of
:math:`\theta` over the group :math:`A` feels the weight decay alone and decays at the
rate :func:`decay_rate`.

**Scale invariance**, :math:`L(\alpha w) = L(w)` for a block :math:`w` of radius
:math:`r = |w|`: then :math:`w \cdot g = 0` and :math:`|g| = c / r`, where the
*spherical gradient norm* :math:`c` depends on the direction :math:`w / r` only. A GD
step is a right triangle with legs :math:`(1 - \eta\lambda)\, r` and :math:`\eta |g|`;
it gives the new radius (:func:`squared_norm_step`) and the angle of the step
(:func:`angular_update`).

The smallest such layer is the **spiral**, :math:`L = c \varphi` with the polar angle
:math:`\varphi`, in the plane without its origin: :math:`g = i c z / |z|^2` in complex
notation, and GD is the map of :func:`spiral_descent`. In the two pure numbers
:math:`u = \eta\lambda` and :math:`a = \eta c / |z|^2` a step adds
:math:`\log((1 - u)^2 + a^2)` to :math:`\log |z|^2` and :math:`-\arctan(a / (1 - u))` to
:math:`\varphi`; :math:`\text{EoM}_p` is therefore a polynomial in :math:`u` and
:math:`a`, of total degree :math:`p + 1` per step.

Source: the formulas are derived in the chapter *Symmetric layers*. Miyagawa, "Toward
Equation of Motion for Deep Neural Networks" (NeurIPS 2022) announces in its abstract
that the Equation of Motion applies to scale- and translation-invariant layers.
"""

import cmath
import math
from collections.abc import Mapping
from numbers import Real
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

from fpbook.validation import (
    require_all_non_negative,
    require_all_positive,
    require_array,
    require_broadcast,
    require_integer,
    require_integer_between,
    require_non_negative,
    require_positive,
    require_real,
    require_type,
)

Numbers = float | NDArray[np.float64]  # one or many; the arguments of a call broadcast


# --- translation-invariant layers ---------------------------------------------------


def decay_rate(
    learning_rate: Numbers, weight_decay: Numbers, order: int | None = None
) -> Numbers:
    r"""Rate at which the mean over a translation-invariant group decays.

    .. math::
        \text{GD (all orders)} \quad & -\tfrac{1}{\eta} \log(1 - \eta\lambda) \\
        \text{EoM}_p \quad & \sum_{m=1}^{p+1} \tfrac{1}{m}\, \eta^{m-1} \lambda^m

    GF has :math:`\lambda`, :math:`\text{EoM}_1` adds :math:`\eta\lambda^2 / 2`. At time
    :math:`t` the mean is :math:`e^{-\text{rate}\, t}` times its start, as for every
    exactly linear mode; with all orders :math:`(1 - \eta\lambda)^k` at
    :math:`t = k \eta`: GD itself. Source: derived in the chapter *Symmetric layers*.

    Parameters
    ----------
    learning_rate, weight_decay
        Learning rate :math:`\eta > 0`, weight decay :math:`\lambda \ge 0` (1 / time).
    order
        Number of counter terms, 0 to 100; None for all of them.

    Returns
    -------
    float or array
        Decay rate in 1 / time; 0 without weight decay.

    Raises
    ------
    ValueError
        If an argument is out of range, or ``order`` is None and
        :math:`\eta\lambda \ge 1`, where no real flow can follow GD.
    """
    _require_rates(learning_rate, weight_decay)
    decay = learning_rate * weight_decay
    if order is None:
        _require_decay_below_one(learning_rate, weight_decay)
        return -np.log1p(-decay) / learning_rate
    require_integer_between(0, MOST_TERMS, order=order)
    return _decay_series(decay, order) / learning_rate


MOST_TERMS = 100
"""Largest order; without its term of order 100 the series is exact to rounding."""


def _require_rates(
    learning_rate: Numbers,
    weight_decay: Numbers,
    positive: Mapping[str, Numbers] = MappingProxyType({}),
    non_negative: Mapping[str, Numbers] = MappingProxyType({}),
) -> None:
    """Require both rates, and further numbers or arrays that broadcast with them."""
    above = {"learning_rate": learning_rate, **positive}
    not_below = {"weight_decay": weight_decay, **non_negative}
    require_type((Real, np.ndarray), **above, **not_below)
    require_all_positive(**above)
    require_all_non_negative(**not_below)
    require_broadcast(**above, **not_below)


def _require_decay_below_one(learning_rate: Numbers, weight_decay: Numbers) -> None:
    if np.any(np.greater_equal(learning_rate * weight_decay, 1)):
        raise ValueError(
            "learning_rate * weight_decay must be < 1, got "
            f"learning_rate {learning_rate} and weight_decay {weight_decay}"
        )


def _decay_series(decay: Numbers, order: int) -> Numbers:
    """First ``order + 1`` terms of ``-log(1 - decay)``."""
    series: Numbers = sum(decay**m / m for m in range(1, order + 2))
    return series


# --- scale-invariant layers ---------------------------------------------------------


def squared_norm_step(
    squared_norm: Numbers,
    squared_gradient_norm: Numbers,
    learning_rate: Numbers,
    weight_decay: Numbers,
) -> Numbers:
    r"""Squared norm of a scale-invariant block after one step of GD, exactly.

    .. math:: r_{k+1}^2 = (1 - \eta\lambda)^2\, r_k^2 + \eta^2 |g_k|^2

    Source: derived in the chapter *Symmetric layers*, from :math:`w \cdot g = 0`.

    Parameters
    ----------
    squared_norm
        :math:`r_k^2 > 0`.
    squared_gradient_norm
        :math:`|g_k|^2 \ge 0` (without the decay term).
    learning_rate, weight_decay
        Learning rate :math:`\eta > 0`, weight decay :math:`\lambda \ge 0`.

    Returns
    -------
    float or array
        :math:`r_{k+1}^2`.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    _require_rates(
        learning_rate,
        weight_decay,
        {"squared_norm": squared_norm},
        {"squared_gradient_norm": squared_gradient_norm},
    )
    decay = learning_rate * weight_decay
    return (1 - decay) ** 2 * squared_norm + learning_rate**2 * squared_gradient_norm


def squared_norm_velocity(
    squared_norm: Numbers,
    squared_gradient_norm: Numbers,
    learning_rate: Numbers,
    weight_decay: Numbers,
    order: int,
    gradient_curvature: Numbers | None = None,
) -> Numbers:
    r"""Time derivative of the squared norm of a scale-invariant block :math:`w`.

    .. math::
        \text{GF} \quad & (r^2)' = -2\lambda\, r^2 \\
        \text{EoM}_1 \quad & (r^2)' = -(2\lambda + \eta\lambda^2) r^2 + \eta |g_w|^2 \\
        \text{EoM}_2 \quad & (r^2)' = -(2\lambda + \eta\lambda^2
            + \tfrac23 \eta^2\lambda^3) r^2 + \eta |g_w|^2 + \eta^2 g_w \cdot (H g)_w

    GF and :math:`\text{EoM}_1` hold for a scale-invariant block of any network;
    :math:`\text{EoM}_2` needs *every decayed parameter* of the network to lie in a
    scale-invariant block. Source: derived in the chapter *Symmetric layers*, from
    :math:`w \cdot (H g)_w = -|g_w|^2`.

    Parameters
    ----------
    squared_norm
        :math:`r^2 > 0`.
    squared_gradient_norm
        :math:`|g_w|^2 \ge 0` (without the decay term).
    learning_rate, weight_decay
        Learning rate :math:`\eta > 0`, weight decay :math:`\lambda \ge 0`.
    order
        Number of counter terms: 0, 1 or 2.
    gradient_curvature
        :math:`g_w \cdot (H g)_w` with the Hessian :math:`H` of :math:`L` (no decay
        term) and the gradient :math:`g` in all parameters; :math:`(\cdot)_w` keeps
        the block. Needed for order 2, ignored below.

    Returns
    -------
    float or array
        :math:`d(r^2)/dt`.

    Raises
    ------
    ValueError
        If an argument is out of range, or ``gradient_curvature`` is missing.
    """
    require_integer_between(0, 2, order=order)
    _require_rates(
        learning_rate,
        weight_decay,
        {"squared_norm": squared_norm},
        {"squared_gradient_norm": squared_gradient_norm},
    )
    velocity = -2 * decay_rate(learning_rate, weight_decay, order) * squared_norm
    if order >= 1:
        velocity = velocity + learning_rate * squared_gradient_norm
    if order == 2:
        if gradient_curvature is None:
            raise ValueError(
                "gradient_curvature must be g_w . (H g)_w for order 2, got None"
            )
        curvature = require_array("gradient_curvature", gradient_curvature)
        velocity = velocity + learning_rate**2 * curvature
    return velocity


def effective_learning_rate(
    radius: Numbers, learning_rate: Numbers, weight_decay: Numbers
) -> Numbers:
    r"""Learning rate that a step of GD has on the unit sphere.

    .. math:: \frac{\eta}{(1 - \eta\lambda)\, r^2} \quad (\text{GF: } \eta / r^2)

    A step turns :math:`w` by arctan(effective learning rate × spherical gradient norm).
    Source: derived in the chapter *Symmetric layers*.

    Parameters
    ----------
    radius
        :math:`r = |w|` before the step, > 0.
    learning_rate, weight_decay
        Learning rate :math:`\eta > 0`, weight decay :math:`\lambda \ge 0`, with
        :math:`\eta\lambda < 1`.

    Returns
    -------
    float or array
        Effective learning rate.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    _require_rates(learning_rate, weight_decay, {"radius": radius})
    _require_decay_below_one(learning_rate, weight_decay)
    decay = learning_rate * weight_decay
    return learning_rate / ((1 - decay) * radius**2)


def angular_update(
    gradient_norm: Numbers,
    radius: Numbers,
    learning_rate: Numbers,
    weight_decay: Numbers,
) -> Numbers:
    r"""Angle between a scale-invariant block before and after a GD step, exactly.

    .. math:: \Delta = \arctan \frac{\eta |g|}{(1 - \eta\lambda)\, r}

    Source: derived in the chapter *Symmetric layers*, from :math:`w \cdot g = 0`.

    Parameters
    ----------
    gradient_norm
        :math:`|g|` at :math:`w` itself (not on the unit sphere, no decay term), >= 0.
    radius
        :math:`r = |w|` before the step, > 0.
    learning_rate, weight_decay
        Learning rate :math:`\eta > 0`, weight decay :math:`\lambda \ge 0`, with
        :math:`\eta\lambda < 1`.

    Returns
    -------
    float or array
        :math:`\Delta` in radians, from 0 to :math:`\pi / 2`.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    _require_rates(
        learning_rate,
        weight_decay,
        {"radius": radius},
        {"gradient_norm": gradient_norm},
    )
    _require_decay_below_one(learning_rate, weight_decay)
    decay = learning_rate * weight_decay
    angle: Numbers = np.arctan2(learning_rate * gradient_norm, (1 - decay) * radius)
    return angle


def equilibrium(
    spherical_gradient_norm: Numbers,
    learning_rate: Numbers,
    weight_decay: Numbers,
    order: int | None = None,
) -> tuple[Numbers, Numbers]:
    r"""Radius and angle per step at which growth and weight decay balance.

    .. math::
        \text{GD} \quad & r_*^4 = \frac{\eta c^2}{2\lambda - \eta\lambda^2}, \quad
            \Delta_* = \arccos(1 - \eta\lambda) \\
        \text{EoM}_1 \quad & r_*^4 = \frac{\eta c^2}{2\lambda + \eta\lambda^2}, \quad
            \Delta_* = \sqrt{2\eta\lambda + \eta^2\lambda^2}

    Orders 2 to 4: the positive zero of the radial part of :func:`spiral_field`. GF has
    no equilibrium. GD, and the radius of :math:`\text{EoM}_1`, ask that :math:`c` be
    constant along the trajectory; the angle of :math:`\text{EoM}_1` and both numbers of
    orders 2 to 4 hold for the spiral only. There :math:`a = \eta c / r_*^2` is close to
    :math:`\sqrt{2\eta\lambda}`, so that orders pair up: 1 and 2 err by
    :math:`O(\eta\lambda)`, 3 and 4 by :math:`O((\eta\lambda)^2)`. Source: derived in
    the chapter *Symmetric layers*.

    Parameters
    ----------
    spherical_gradient_norm
        :math:`c = |g|\, r`, > 0.
    learning_rate, weight_decay
        Learning rate :math:`\eta > 0`, weight decay :math:`\lambda > 0`; for GD with
        :math:`\eta\lambda < 1`.
    order
        1 to 4 for EoM; None for GD.

    Returns
    -------
    tuple
        :math:`(r_*, \Delta_*)`, the angle in radians per step of length :math:`\eta`.
        A truncated series says little once :math:`\eta\lambda` passes 1: order 3 then
        turns backwards, :math:`\Delta_* < 0`.

    Raises
    ------
    ValueError
        If an argument is out of range, in particular for order 0.
    """
    _require_rates(
        learning_rate,
        weight_decay,
        {"spherical_gradient_norm": spherical_gradient_norm},
    )
    require_all_positive(weight_decay=weight_decay)
    decay = learning_rate * weight_decay
    if order is None:
        _require_decay_below_one(learning_rate, weight_decay)
        advance = np.sqrt(decay * (2 - decay))
        angle: Numbers = np.arctan2(advance, 1 - decay)
    elif order == 0:
        raise ValueError(
            "order must be None or 1 to 4, got 0: gradient flow has no equilibrium, "
            "its norm decays to zero"
        )
    else:
        require_integer_between(1, 4, order=order)
        loss, linear, quadratic = _growth_coefficients(decay, order)
        # The one positive root of quadratic a^4 + linear a^2 = loss: it exists since
        # loss > 0 and quadratic >= 0, with linear = 1 where quadratic = 0.
        root = np.sqrt(linear**2 + 4 * quadratic * loss)
        advance = np.sqrt(2 * loss / (linear + root))
        angle = -_spiral_rates(advance, decay, order)[1]
    return np.sqrt(learning_rate * spherical_gradient_norm / advance), angle


def _growth_coefficients(
    decay: Numbers, order: int
) -> tuple[Numbers, Numbers, Numbers]:
    """Return loss, linear and quadratic of the growth of ``log r^2`` per step.

    The growth is ``quadratic a^4 + linear a^2 - loss``. Per counter term, with
    ``u = decay``: the first brings ``a^2``, the third ``a^4 / 2 - 2 u^2 a^2 / 3``, the
    fourth ``-2 u^3 a^2 / 3``, each a term of the loss.
    """
    u = decay
    linear = sum([0.0, 1.0, 0.0, -2 * u**2 / 3, -2 * u**3 / 3][: order + 1])
    return 2 * _decay_series(u, order), linear, 0.5 if order >= 3 else 0.0


def _spiral_rates(
    advance: Numbers, decay: Numbers, order: int
) -> tuple[Numbers, Numbers]:
    """Change per step of ``log r^2`` and of the angle; ``a = advance, u = decay``.

    Counter term ``j`` has the terms of total degree ``j + 1`` in ``a`` and ``u``.
    """
    a, u = advance, decay
    loss, linear, quadratic = _growth_coefficients(u, order)
    angle_terms = [
        -a,
        0.0,
        -(a**3) / 6 + a * u**2 / 6,
        a**3 * u / 6 + a * u**3 / 6,
        -(a**5) / 5 + a**3 * u**2 / 3 + 2 * a * u**4 / 15,
    ]
    growth = quadratic * a**4 + linear * a**2 - loss
    return growth, sum(angle_terms[: order + 1])


# --- the spiral ---------------------------------------------------------------------


def spiral_descent(
    start: NDArray[np.float64],
    spherical_gradient_norm: float,
    learning_rate: float,
    weight_decay: float,
    steps: int,
) -> NDArray[np.float64]:
    r"""Iterates of GD on the spiral.

    .. math:: z \leftarrow z \left(1 - \eta\lambda - \frac{i \eta c}{|z|^2}\right)

    is the step for :math:`c \varphi + \tfrac12 \lambda |z|^2` with the polar angle
    :math:`\varphi`. The loss is multivalued, its gradient is not and never vanishes: a
    layer that trains for ever, clockwise.
    Source: derived in the chapter *Symmetric layers*.

    Parameters
    ----------
    start
        Start in the plane, shape (2,), not the origin.
    spherical_gradient_norm
        :math:`c = |g|\, r`, > 0.
    learning_rate, weight_decay
        Learning rate :math:`\eta > 0`, weight decay :math:`\lambda \ge 0`.
    steps
        Number of steps, >= 0.

    Returns
    -------
    array
        All iterates, shape (steps + 1, 2); row 0 is ``start``.

    Raises
    ------
    ValueError
        If an argument is out of range.
    FloatingPointError
        If an iterate is not finite; names the step.
    """
    require_positive(
        learning_rate=learning_rate, spherical_gradient_norm=spherical_gradient_norm
    )
    require_non_negative(weight_decay=weight_decay)
    decay = learning_rate * weight_decay
    require_integer(0, steps=steps)
    z = _complex_start(start)
    path = [z]
    kept, push = float(1 - decay), float(learning_rate * spherical_gradient_norm)
    for step in range(1, steps + 1):
        squared_norm = z.real * z.real + z.imag * z.imag
        advance = push / squared_norm if squared_norm else math.inf
        z = z * complex(kept, -advance)
        if not cmath.isfinite(z):
            raise FloatingPointError(f"the iterate of step {step} is not finite")
        path.append(z)
    iterates = np.array(path)
    return np.column_stack([iterates.real, iterates.imag])


def _complex_start(start: NDArray[np.float64]) -> complex:
    point = require_real("start", start)
    if point.shape != (2,) or not np.isfinite(point).all() or not point.any():
        raise ValueError(
            "start must be a finite point of shape (2,), not the origin, "
            f"got {point} of shape {point.shape}"
        )
    return complex(point[0], point[1])


def spiral_field(
    squared_norm: Numbers,
    spherical_gradient_norm: Numbers,
    learning_rate: Numbers,
    weight_decay: Numbers,
    order: int,
) -> tuple[Numbers, Numbers]:
    r"""Velocity of ``(r^2, polar angle)`` on the spiral after ``order`` counter terms.

    With :math:`x = r^2` and the polar angle :math:`\varphi`, the velocity is
    :math:`\sum_j \eta^j f_j`, up to :math:`j =` ``order``, where

    .. math::
        \begin{array}{lll}
        & x' & \varphi' \\
        f_0 & -2\lambda x & -\frac{c}{x} \\
        f_1 & \frac{c^2}{x} - \lambda^2 x & 0 \\
        f_2 & -\frac{2\lambda^3 x}{3} & -\frac{c^3}{6x^3} + \frac{c\lambda^2}{6x} \\
        f_3 & \frac{c^4}{2x^3} - \frac{2c^2\lambda^2}{3x} - \frac{\lambda^4 x}{2}
            & \frac{c^3\lambda}{6x^3} + \frac{c\lambda^3}{6x} \\
        f_4 & -\frac{2c^2\lambda^3}{3x} - \frac{2\lambda^5 x}{5}
            & -\frac{c^5}{5x^5} + \frac{c^3\lambda^2}{3x^3} + \frac{2c\lambda^4}{15x}
        \end{array}

    Source: derived in the chapter *Symmetric layers*, as the logarithm of the GD step.

    Parameters
    ----------
    squared_norm
        :math:`x = r^2`, > 0.
    spherical_gradient_norm
        :math:`c = |g|\, r`, > 0.
    learning_rate, weight_decay
        Learning rate :math:`\eta > 0`, weight decay :math:`\lambda \ge 0`.
    order
        Number of counter terms, 0 to 4.

    Returns
    -------
    tuple
        :math:`(x', \varphi')`, the angle in radians, counter-clockwise.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    above = {
        "squared_norm": squared_norm,
        "spherical_gradient_norm": spherical_gradient_norm,
    }
    _require_rates(learning_rate, weight_decay, above)
    require_integer_between(0, 4, order=order)
    decay = learning_rate * weight_decay
    advance = learning_rate * spherical_gradient_norm / squared_norm
    growth, turn = _spiral_rates(advance, decay, order)
    return squared_norm * growth / learning_rate, turn / learning_rate


# Relative accuracy of the integration, for r^2 and for the angle turned so far; and
# the error of the angle, in radians, from which on a position is not worth returning.
RELATIVE_TOLERANCE = 1e-12
ANGLE_TOLERANCE = 1e-3


def spiral_flow(
    start: NDArray[np.float64],
    spherical_gradient_norm: float,
    learning_rate: float,
    weight_decay: float,
    steps: int,
    order: int,
) -> NDArray[np.float64]:
    r"""Solution of EoM on the spiral at the times ``t = k eta`` of the GD iterates.

    Integrates :func:`spiral_field` with DOP853, as :math:`\log r^2` and the angle
    turned, to a relative accuracy of 1e-12. Source: derived in the chapter *Symmetric
    layers*.

    Parameters
    ----------
    start
        Start in the plane, shape (2,), not the origin.
    spherical_gradient_norm
        :math:`c = |g|\, r`, > 0.
    learning_rate, weight_decay
        Learning rate :math:`\eta > 0`, weight decay :math:`\lambda \ge 0`.
    steps
        Number of steps of length :math:`\eta`, >= 0.
    order
        Number of counter terms, 0 (GF) to 4.

    Returns
    -------
    array
        Positions, shape (steps + 1, 2); row 0 is ``start``.

    Raises
    ------
    ValueError
        If an argument is out of range.
    FloatingPointError
        If the solver fails, or the angle turned is so large that it is uncertain by
        1e-3 radians; names the last good time. GF with decay ends this way: its radius
        collapses and its angular velocity :math:`c / r^2` grows as
        :math:`e^{2\lambda t}`.
    """
    require_positive(
        learning_rate=learning_rate, spherical_gradient_norm=spherical_gradient_norm
    )
    require_non_negative(weight_decay=weight_decay)
    decay = learning_rate * weight_decay
    require_integer(0, steps=steps)
    require_integer_between(0, 4, order=order)
    z0 = _complex_start(start)

    def rates(_step: float, state: NDArray[np.float64]) -> tuple[Numbers, Numbers]:
        return _spiral_rates(advance * np.exp(-state[0]), decay, order)

    with np.errstate(all="ignore"):
        advance = learning_rate * spherical_gradient_norm / np.abs(z0) ** 2
        solution = solve_ivp(
            rates,
            (0, steps),
            [0.0, 0.0],
            method="DOP853",
            t_eval=np.arange(1, steps + 1),
            rtol=RELATIVE_TOLERANCE,
            atol=RELATIVE_TOLERANCE,
        )
    states = np.hstack([np.zeros((2, 1)), np.reshape(solution.y, (2, -1))])
    uncertainty = RELATIVE_TOLERANCE * np.abs(states[1])
    good = np.append(uncertainty < ANGLE_TOLERANCE, False).argmin()
    if good <= steps:
        raise FloatingPointError(
            f"order {order}: the solution is lost after time "
            f"{(good - 1) * learning_rate}, where the radius has become too small or "
            "the angular velocity too large"
        )
    z = z0 * np.exp(states[0] / 2 + 1j * states[1])
    return np.column_stack([z.real, z.imag])
