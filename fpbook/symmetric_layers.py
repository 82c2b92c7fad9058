"""Layers with a symmetry: what the counter term does to norms, angles and means.

Setting. Full-batch gradient descent (GD) with weight decay inside the gradient,

    theta <- theta - eta (grad L + lam theta),      time t = eta * step,

is compared with the Equation of Motion truncated after ``order`` counter terms:
order 0 is gradient flow (GF), order p is EoM_p. In signatures eta is
``learning_rate`` and lam is ``weight_decay``; g is the gradient of L *without* decay.

Translation invariance, L(theta + alpha 1_A) = L(theta): the mean of theta over the
group A feels the weight decay alone, and decays at the rate

    GD  -log(1 - eta lam) / eta,          EoM_p  sum_{m=1}^{p+1} eta^(m-1) lam^m / m.

Scale invariance, L(alpha w) = L(w) for a block w of radius r = |w|: then w . g = 0
and |g| = c / r, where the *spherical gradient norm* c depends on the direction w / r
only. A GD step is a right triangle with legs (1 - eta lam) r and eta |g|, so that

    r_{k+1}^2 = (1 - eta lam)^2 r_k^2 + eta^2 |g_k|^2,
    tan Delta_k = eta |g_k| / ((1 - eta lam) r_k),          Delta_k: angle of the step.

The smallest such layer is the *spiral*, L = c * (polar angle) in the plane without
its origin: g = c i z / |z|^2 in complex notation, and GD is

    z <- z (1 - eta lam - i eta c / |z|^2).

In the two pure numbers u = eta lam and a = eta c / |z|^2 a step adds
log((1 - u)^2 + a^2) to log |z|^2 and -arctan(a / (1 - u)) to the polar angle; EoM_p
is therefore a polynomial in u and a, of total degree p + 1 per step.

Source: the formulas are derived in chapter *Symmetric layers*. Miyagawa, "Toward
Equation of Motion for Deep Neural Networks" (NeurIPS 2022) announces in its abstract
that the Equation of Motion applies to scale- and translation-invariant layers.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

Numbers = float | NDArray[np.float64]  # one or many; the arguments of a call broadcast


# --- translation-invariant layers ---------------------------------------------------


def decay_rate(
    learning_rate: Numbers, weight_decay: Numbers, order: int | None = None
) -> Numbers:
    """Rate at which the mean over a translation-invariant group decays.

        order p     sum_{m=1}^{p+1} eta^(m-1) lam^m / m      (GF lam; EoM_1 adds
        order None  -log(1 - eta lam) / eta                   eta lam^2 / 2)

    The mean at time t is exp(-rate t) times its start, as for every exactly linear
    mode. With all orders (None) this is (1 - eta lam)^k at t = k eta: GD itself.
    Source: derived in chapter *Symmetric layers*.

    Parameters
    ----------
    learning_rate, weight_decay
        eta > 0 and lam >= 0 (1 / time).
    order
        Number of counter terms, >= 0; None for all of them.

    Returns
    -------
    float or array
        Decay rate in 1 / time; 0 without weight decay.

    Raises
    ------
    ValueError
        If an argument is out of range, or ``order`` is None and eta lam >= 1, where
        no real flow can follow GD.
    """
    decay = _decay_per_step(learning_rate, weight_decay)
    if order is None:
        _require_decay_below_one(learning_rate, weight_decay)
        return -np.log1p(-decay) / learning_rate
    _require_order(order, 0, np.inf)
    return _decay_series(decay, order) / learning_rate


def _decay_per_step(learning_rate: Numbers, weight_decay: Numbers) -> Numbers:
    """Check both factors of eta lam and return it."""
    _require_positive(learning_rate=learning_rate)
    _require_non_negative(weight_decay=weight_decay)
    return learning_rate * weight_decay


def _require_positive(**arguments: Numbers) -> None:
    for name, values in arguments.items():
        if not np.all(np.isfinite(values) & np.greater(values, 0)):
            raise ValueError(f"{name} must be finite and > 0, got {values}")


def _require_non_negative(**arguments: Numbers) -> None:
    for name, values in arguments.items():
        if not np.all(np.isfinite(values) & np.greater_equal(values, 0)):
            raise ValueError(f"{name} must be finite and >= 0, got {values}")


def _require_decay_below_one(learning_rate: Numbers, weight_decay: Numbers) -> None:
    if np.any(np.greater_equal(learning_rate * weight_decay, 1)):
        raise ValueError(
            "learning_rate * weight_decay must be < 1, got "
            f"learning_rate {learning_rate} and weight_decay {weight_decay}"
        )


def _require_order(order: int, smallest: int, largest: float) -> None:
    if not isinstance(order, int | np.integer) or not smallest <= order <= largest:
        raise ValueError(
            f"order must be an integer from {smallest} to {largest}, got {order!r}"
        )


def _decay_series(decay: Numbers, order: int) -> Numbers:
    """First ``order`` + 1 terms of -log(1 - decay)."""
    series: Numbers = sum(decay**m / m for m in range(1, order + 2))
    return series


# --- scale-invariant layers ---------------------------------------------------------


def squared_norm_step(
    squared_norm: Numbers,
    squared_gradient_norm: Numbers,
    learning_rate: Numbers,
    weight_decay: Numbers,
) -> Numbers:
    """Squared norm of a scale-invariant block after one step of GD, exactly.

        r_{k+1}^2 = (1 - eta lam)^2 r_k^2 + eta^2 |g_k|^2

    Source: derived in chapter *Symmetric layers*, from w . g = 0.

    Parameters
    ----------
    squared_norm, squared_gradient_norm
        r_k^2 > 0 and |g_k|^2 >= 0 (without the decay term).
    learning_rate, weight_decay
        eta > 0 and lam >= 0.

    Returns
    -------
    float or array
        r_{k+1}^2.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    decay = _decay_per_step(learning_rate, weight_decay)
    _require_positive(squared_norm=squared_norm)
    _require_non_negative(squared_gradient_norm=squared_gradient_norm)
    return (1 - decay) ** 2 * squared_norm + learning_rate**2 * squared_gradient_norm


def squared_norm_velocity(
    squared_norm: Numbers,
    squared_gradient_norm: Numbers,
    learning_rate: Numbers,
    weight_decay: Numbers,
    order: int,
    gradient_curvature: Numbers | None = None,
) -> Numbers:
    """Time derivative of the squared norm of a scale-invariant block w.

        GF     (r^2)' = -2 lam r^2
        EoM_1  (r^2)' = -(2 lam + eta lam^2) r^2 + eta |g_w|^2
        EoM_2  (r^2)' = -(2 lam + eta lam^2 + (2/3) eta^2 lam^3) r^2
                        + eta |g_w|^2 + eta^2 g_w . (H g)_w

    GF and EoM_1 hold for a scale-invariant block of any network; EoM_2 needs *every
    decayed parameter* of the network to lie in a scale-invariant block.
    Source: derived in chapter *Symmetric layers*, from w . (H g)_w = -|g_w|^2.

    Parameters
    ----------
    squared_norm, squared_gradient_norm
        r^2 > 0 and |g_w|^2 >= 0 (without the decay term).
    learning_rate, weight_decay
        eta > 0 and lam >= 0.
    order
        Number of counter terms: 0, 1 or 2.
    gradient_curvature
        g_w . (H g)_w with the Hessian H of L (no decay term) and the gradient g in
        all parameters; (.)_w keeps the block. Needed for order 2, ignored below.

    Returns
    -------
    float or array
        d(r^2)/dt.

    Raises
    ------
    ValueError
        If an argument is out of range, or ``gradient_curvature`` is missing.
    """
    _require_order(order, 0, 2)
    _require_positive(squared_norm=squared_norm)
    _require_non_negative(squared_gradient_norm=squared_gradient_norm)
    velocity = -2 * decay_rate(learning_rate, weight_decay, order) * squared_norm
    if order >= 1:
        velocity = velocity + learning_rate * squared_gradient_norm
    if order == 2:
        if gradient_curvature is None:
            raise ValueError(
                "gradient_curvature must be g_w . (H g)_w for order 2, got None"
            )
        velocity = velocity + learning_rate**2 * gradient_curvature
    return velocity


def effective_learning_rate(
    radius: Numbers, learning_rate: Numbers, weight_decay: Numbers
) -> Numbers:
    """Learning rate that a step of GD has on the unit sphere.

        eta / ((1 - eta lam) r^2)                             (GF: eta / r^2)

    A step turns w by arctan(effective learning rate * spherical gradient norm).
    Source: derived in chapter *Symmetric layers*.

    Parameters
    ----------
    radius
        r = |w| before the step, > 0.
    learning_rate, weight_decay
        eta > 0 and lam >= 0 with eta lam < 1.

    Returns
    -------
    float or array
        Effective learning rate.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    decay = _decay_per_step(learning_rate, weight_decay)
    _require_decay_below_one(learning_rate, weight_decay)
    _require_positive(radius=radius)
    return learning_rate / ((1 - decay) * radius**2)


def angular_update(
    gradient_norm: Numbers,
    radius: Numbers,
    learning_rate: Numbers,
    weight_decay: Numbers,
) -> Numbers:
    """Angle between a scale-invariant block before and after a GD step, exactly.

        Delta = arctan(eta |g| / ((1 - eta lam) r))

    Source: derived in chapter *Symmetric layers*, from w . g = 0.

    Parameters
    ----------
    gradient_norm
        |g| at w itself (not on the unit sphere, no decay term), >= 0.
    radius
        r = |w| before the step, > 0.
    learning_rate, weight_decay
        eta > 0 and lam >= 0 with eta lam < 1.

    Returns
    -------
    float or array
        Delta in radians, from 0 to pi / 2.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    decay = _decay_per_step(learning_rate, weight_decay)
    _require_decay_below_one(learning_rate, weight_decay)
    _require_positive(radius=radius)
    _require_non_negative(gradient_norm=gradient_norm)
    angle: Numbers = np.arctan2(learning_rate * gradient_norm, (1 - decay) * radius)
    return angle


def equilibrium(
    spherical_gradient_norm: Numbers,
    learning_rate: Numbers,
    weight_decay: Numbers,
    order: int | None = None,
) -> tuple[Numbers, Numbers]:
    """Radius and angle per step at which growth and weight decay balance.

        GD     r*^4 = eta c^2 / (2 lam - eta lam^2),  Delta* = arccos(1 - eta lam)
        EoM_1  r*^4 = eta c^2 / (2 lam + eta lam^2),  Delta* = sqrt(2 eta lam
                                                                + eta^2 lam^2)

    Orders 2 to 4: the positive zero of the radial part of `spiral_field`. GF has no
    equilibrium. GD, and the radius of EoM_1, ask that c be constant along the
    trajectory; the angle of EoM_1 and both numbers of orders 2 to 4 hold for the
    spiral only. There a = eta c / r*^2 is close to sqrt(2 eta lam), so that orders
    pair up: EoM_1 and EoM_2 err by O(eta lam), EoM_3 and EoM_4 by O((eta lam)^2).
    Source: derived in chapter *Symmetric layers*.

    Parameters
    ----------
    spherical_gradient_norm
        c = |g| r, > 0.
    learning_rate, weight_decay
        eta > 0 and lam > 0; for GD with eta lam < 1.
    order
        1 to 4 for EoM; None for GD.

    Returns
    -------
    tuple
        (r*, Delta*), the angle in radians per step of length eta. A truncated series
        says little once eta lam passes 1: order 3 then turns backwards, Delta* < 0.

    Raises
    ------
    ValueError
        If an argument is out of range, in particular for order 0.
    """
    _require_positive(
        spherical_gradient_norm=spherical_gradient_norm, weight_decay=weight_decay
    )
    decay = _decay_per_step(learning_rate, weight_decay)
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
        _require_order(order, 1, 4)
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
    """(loss, linear, quadratic) of eta (log r^2)' = quadratic a^4 + linear a^2 - loss.

    Per counter term, with u = ``decay``: the first brings a^2, the third
    a^4 / 2 - 2 u^2 a^2 / 3, the fourth -2 u^3 a^2 / 3, each a term of the loss.
    """
    u = decay
    linear = sum([0.0, 1.0, 0.0, -2 * u**2 / 3, -2 * u**3 / 3][: order + 1])
    return 2 * _decay_series(u, order), linear, 0.5 if order >= 3 else 0.0


def _spiral_rates(
    advance: Numbers, decay: Numbers, order: int
) -> tuple[Numbers, Numbers]:
    """Change per step of log r^2 and of the angle, with a = ``advance``, u = ``decay``.

    Counter term j has the terms of total degree j + 1 in a and u.
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
    """Iterates of GD on the spiral, L = c * (polar angle) + (lam / 2) |z|^2.

        z <- z (1 - eta lam - i eta c / |z|^2)

    The loss is multivalued, its gradient is not and never vanishes: a layer that
    trains for ever, clockwise. Source: derived in chapter *Symmetric layers*.

    Parameters
    ----------
    start
        Start in the plane, shape (2,), not the origin.
    spherical_gradient_norm
        c = |g| r, > 0.
    learning_rate, weight_decay
        eta > 0 and lam >= 0.
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
    decay = _decay_per_step(learning_rate, weight_decay)
    _require_positive(spherical_gradient_norm=spherical_gradient_norm)
    _require_steps(steps)
    z = np.empty(steps + 1, dtype=np.complex128)
    z[0] = _complex_start(start)
    with np.errstate(all="ignore"):
        for k in range(steps):
            squared_norm = z[k].real ** 2 + z[k].imag ** 2
            advance = learning_rate * spherical_gradient_norm / squared_norm
            z[k + 1] = z[k] * (1 - decay - 1j * advance)
            if not np.isfinite(z[k + 1]):
                raise FloatingPointError(f"the iterate of step {k + 1} is not finite")
    return np.column_stack([z.real, z.imag])


def _require_steps(steps: int) -> None:
    if not isinstance(steps, int | np.integer) or steps < 0:
        raise ValueError(f"steps must be an integer >= 0, got {steps!r}")


def _complex_start(start: NDArray[np.float64]) -> np.complex128:
    point = np.asarray(start, dtype=np.float64)
    if point.shape != (2,) or not np.isfinite(point).all() or not point.any():
        raise ValueError(
            "start must be a finite point of shape (2,), not the origin, "
            f"got {point} of shape {point.shape}"
        )
    return np.complex128(complex(point[0], point[1]))


def spiral_field(
    squared_norm: Numbers,
    spherical_gradient_norm: Numbers,
    learning_rate: Numbers,
    weight_decay: Numbers,
    order: int,
) -> tuple[Numbers, Numbers]:
    """Velocity of (r^2, polar angle) on the spiral, after ``order`` counter terms.

    With x = r^2 the counter term j, of order eta^j, contributes to (x', angle')

        f_0  -2 lam x,                          -c / x
        f_1  c^2/x - lam^2 x,                   0
        f_2  -2 lam^3 x/3,                      -c^3/(6 x^3) + c lam^2/(6 x)
        f_3  c^4/(2 x^3) - 2 c^2 lam^2/(3 x)    c^3 lam/(6 x^3) + c lam^3/(6 x)
               - lam^4 x/2,
        f_4  -2 c^2 lam^3/(3 x) - 2 lam^5 x/5,  -c^5/(5 x^5) + c^3 lam^2/(3 x^3)
                                                  + 2 c lam^4/(15 x)

    Source: derived in chapter *Symmetric layers*, as the logarithm of the GD step.

    Parameters
    ----------
    squared_norm
        x = r^2, > 0.
    spherical_gradient_norm
        c = |g| r, > 0.
    learning_rate, weight_decay
        eta > 0 and lam >= 0.
    order
        Number of counter terms, 0 to 4.

    Returns
    -------
    tuple
        (d(r^2)/dt, d(angle)/dt), the angle in radians, counter-clockwise.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    decay = _decay_per_step(learning_rate, weight_decay)
    _require_positive(
        squared_norm=squared_norm, spherical_gradient_norm=spherical_gradient_norm
    )
    _require_order(order, 0, 4)
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
    """Solution of EoM on the spiral at the times t = k eta of the GD iterates.

    Integrates `spiral_field` with DOP853, as log r^2 and the angle turned, to a
    relative accuracy of 1e-12. Source: derived in chapter *Symmetric layers*.

    Parameters
    ----------
    start
        Start in the plane, shape (2,), not the origin.
    spherical_gradient_norm
        c = |g| r, > 0.
    learning_rate, weight_decay
        eta > 0 and lam >= 0.
    steps
        Number of steps of length eta, >= 0.
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
        1e-3 radians; names the last good time. GF with decay ends this way: its
        radius collapses and its angular velocity c / r^2 grows as exp(2 lam t).
    """
    decay = _decay_per_step(learning_rate, weight_decay)
    _require_positive(spherical_gradient_norm=spherical_gradient_norm)
    _require_steps(steps)
    _require_order(order, 0, 4)
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
