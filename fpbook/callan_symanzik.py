r"""Callan-Symanzik equations for training: exact, renormalised, static.

One weight :math:`W` with the loss :math:`L = \sum_k \lambda_k W^k / k`, trained at the
temperature :math:`T` from :math:`W = 0`, has the correlators :math:`G_n(t) = \langle
W^n \rangle`. Four statements about them are equations of Callan and Symanzik, each
stronger than the one before:

- Ward identities of the change of units, for any couplings (:func:`ward_residual`).
- Training time :math:`\tau` as the renormalisation point: with :math:`Z(\tau) = G_2`
  and :math:`g_R(\tau) = 3 - G_4 / G_2^2`,

  .. math:: \bigl[ \tau \partial_\tau + \beta\, \partial_{g_R} + n \gamma \bigr]
      \bigl( Z^{-n/2} G_n \bigr) = 0, \qquad
      \beta = \frac{d g_R}{d \log \tau}, \qquad
      \gamma = \frac12 \frac{d \log Z}{d \log \tau}

  (:func:`running`, :func:`callan_symanzik_residual`,
  :func:`fpbook.exact_series.moment_series`).
- The stationary density, with the curvature of the loss as a mass: Callan's own
  equation, with an insertion of :math:`W^2` on its right side (:func:`static_flow`).
- A marginal coupling and an anomalous dimension that varies continuously: the
  logarithmic potential (:func:`survival`).

Without noise the Fokker-Planck equation itself is of this form, with the weights as
couplings, :math:`\beta = -\nabla L` and the anomalous term :math:`-\nabla^2 L`; its
solution runs along gradient flow (:func:`characteristics`).

Sources: Callan, Phys. Rev. D 2, 1541 (1970); Symanzik, Commun. Math. Phys. 18, 227
(1970); derived in the chapter *Training under a microscope: Callan-Symanzik*.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import solve_ivp
from scipy.interpolate import make_interp_spline
from scipy.optimize import brentq
from scipy.special import gammainc

from fpbook.correlators import (
    EXPONENT,
    SPREADS,
    STEPS,
    checked_couplings,
    correlators,
    march,
    reach,
)
from fpbook.exact_series import moment_series, static_series
from fpbook.fokker_planck import FokkerPlanck, Grid
from fpbook.validation import (
    LARGEST,
    require_all_positive,
    require_array,
    require_between,
    require_callable,
    require_choice,
    require_finite,
    require_integer,
    require_integers,
    require_positive,
    require_real,
    require_returned,
    require_times,
    require_walkers,
)

__all__ = [
    "CallanSymanzik",
    "Running",
    "StaticFlow",
    "Survival",
    "Transported",
    "callan_symanzik_residual",
    "characteristics",
    "correlators",
    "moment_series",
    "running",
    "static_flow",
    "static_residual",
    "static_series",
    "survival",
    "survival_from_density",
    "ward_residual",
]

Array = NDArray[np.float64]
Field = Callable[[Array], Array]
Correlator = Callable[[float, float, Sequence[int]], ArrayLike]

# --- weights as couplings -----------------------------------------------------------


class Transported(NamedTuple):
    r"""Gradient flow and the density it carries.

    Attributes
    ----------
    paths
        Weights, (m, n, d).
    log_ratio
        :math:`\log p(w(t), t) - \log p(w(0), 0)`, shape (m, n).
    """

    paths: Array
    log_ratio: Array


def characteristics(
    gradient: Field, laplacian: Field, points: ArrayLike, times: ArrayLike
) -> Transported:
    r"""Solve the Fokker-Planck equation without diffusion along gradient flow.

    .. math:: \dot w = -\nabla L(w), \qquad
        \frac{d}{dt} \log p(w(t), t) = \nabla^2 L(w(t)),

    the method of characteristics for :math:`[\partial_t + \beta \cdot \nabla + \nabla
    \cdot \beta]\, p = 0` with :math:`\beta = -\nabla L`: an equation of Callan and
    Symanzik whose running couplings are the weights. Integrated by DOP853 to a
    relative 1e-11. Source: derived in the chapter *Training under a microscope:
    Callan-Symanzik*.

    Parameters
    ----------
    gradient
        :math:`\nabla L`, callable (n, d) -> (n, d).
    laplacian
        :math:`\nabla^2 L`, callable (n, d) -> (n,).
    points
        Weights at time 0, shape (n, d).
    times
        Training times, >= 0 and increasing, shape (m,).

    Returns
    -------
    Transported
        Weights at the times, and how much the log-density there has grown.

    Raises
    ------
    ValueError
        If a shape does not fit or a number is not finite.
    TypeError
        If ``gradient`` or ``laplacian`` is no function.
    FloatingPointError
        If the flow cannot be integrated, as where it runs to infinity.
    """
    require_callable(gradient=gradient, laplacian=laplacian)
    start = require_walkers("points", points)
    moments = require_times(times)
    n, d = start.shape
    require_returned("gradient", gradient(start), (n, d))
    require_returned("laplacian", laplacian(start), (n,))

    def velocity(_: float, state: Array) -> Array:
        w = state[: n * d].reshape(n, d)
        return np.concatenate([-np.ravel(gradient(w)), laplacian(w)])

    begin = np.concatenate([start.ravel(), np.zeros(n)])
    with np.errstate(over="ignore", invalid="ignore"):
        solved = solve_ivp(
            velocity,
            (0.0, float(moments[-1])),
            begin,
            method="DOP853",
            t_eval=moments,
            rtol=1e-11,
            atol=1e-12,
        )
    if not solved.success or not np.all(np.isfinite(solved.y)):
        raise FloatingPointError(
            f"gradient flow cannot be integrated: {solved.message}"
        )
    return Transported(
        solved.y[: n * d].T.reshape(len(moments), n, d), solved.y[n * d :].T
    )


# --- changes of units ---------------------------------------------------------------

IDENTITIES = ("length", "noise", "time")
STEP = 0.04
"""Of logarithms of couplings and times, in differences of fourth order."""


def ward_residual(
    couplings: Mapping[int, float],
    temperature: float,
    time: float,
    order: int,
    identity: str,
) -> float:
    r"""How well correlators obey the Ward identity of a change of units.

    .. math::
        \Bigl[ -2 t\, \partial_t + \sum_k k \lambda_k\, \partial_{\lambda_k} + n \Bigr]
        G_n &= 0 && \text{(length: } W = b W',\ t = b^2 t') \\
        \Bigl[ \sum_k (k - 2) \lambda_k\, \partial_{\lambda_k} - 2 T\, \partial_T + n
        \Bigr] G_n &= 0 && \text{(noise: } W = b W',\ T = b^2 T') \\
        \Bigl[ t\, \partial_t - \sum_k \lambda_k\, \partial_{\lambda_k} - T\,
        \partial_T \Bigr] G_n &= 0 && \text{(time: } t = b t')

    Every derivative comes from runs of its own, all in one box: a box that is scaled
    with the units would build the identity into the numbers. Source: derived in the
    chapter *Training under a microscope: Callan-Symanzik*.

    Parameters
    ----------
    couplings
        :math:`\lambda_k` by their powers k >= 1.
    temperature
        :math:`T > 0`.
    time
        Training time t > 0.
    order
        :math:`n \ge 0`.
    identity
        "length", "noise" or "time".

    Returns
    -------
    float
        Sum of the terms, over the largest of them.

    Raises
    ------
    ValueError
        If an argument is out of range.
    TypeError
        If ``couplings`` is no mapping.
    """
    losses = checked_couplings(couplings)
    require_positive(temperature=temperature, time=time)
    require_integer(0, order=order)
    require_choice(IDENTITIES, identity=identity)
    # Couplings, noise and time are all varied up to two steps either way.
    hot, late = temperature * math.exp(2 * STEP), time * math.exp(2 * STEP)
    box = max(
        reach({k: v * math.exp(x) for k, v in losses.items()}, hot, late)
        for x in (-2 * STEP, 2 * STEP)
    )

    def correlator(changed: Mapping[int, float], hot: float, late: float) -> Array:
        (row,) = correlators(changed, hot, [late], [order], half_width=box)
        return np.asarray(row)

    def along(power: int) -> float:
        def value(x: float) -> Array:
            changed = losses | {power: losses[power] * math.exp(x)}
            return correlator(changed, temperature, time)

        return float(_log_derivative(value)[0])

    by_time = _log_derivative(
        lambda x: correlator(losses, temperature, time * math.exp(x))
    )
    by_temperature = _log_derivative(
        lambda x: correlator(losses, temperature * math.exp(x), time)
    )
    weight: Callable[[int], int]
    if identity == "length":
        weight, outer = lambda k: k, [-2 * by_time]
    elif identity == "noise":
        weight, outer = lambda k: k - 2, [-2 * by_temperature]
    else:
        weight, outer = lambda k: -1, [by_time, -by_temperature]
    terms = [float(term[0]) for term in outer]
    terms += [weight(k) * along(k) for k in losses]
    if identity != "time":
        terms.append(order * float(correlator(losses, temperature, time)[0]))
    return abs(sum(terms)) / max(map(abs, terms))


def _log_derivative(value: Callable[[float], Array], step: float = STEP) -> Array:
    """Derivative at 0, by differences of fourth order."""
    far = value(2 * step) - value(-2 * step)
    near = value(step) - value(-step)
    return (8 * near - far) / (12 * step)


# --- training time as the renormalisation point -------------------------------------


class Running(NamedTuple):
    r"""A renormalised theory along training; arrays (m,).

    Attributes
    ----------
    scale
        :math:`Z = G_2`, weight squared.
    coupling
        :math:`g_R = 3 - G_4 / G_2^2`.
    beta
        :math:`d g_R / d \log \tau`.
    gamma
        :math:`\frac12 d \log Z / d \log \tau`.
    """

    scale: Array
    coupling: Array
    beta: Array
    gamma: Array


def running(times: ArrayLike, second: ArrayLike, fourth: ArrayLike) -> Running:
    r"""Run of the coupling and of the scale, from measured correlators.

    .. math:: Z = G_2, \qquad g_R = 3 - \frac{G_4}{G_2^2}, \qquad
        \beta = \frac{d g_R}{d \log \tau}, \qquad
        \gamma = \frac12 \frac{d \log Z}{d \log \tau}

    Derivatives are those of the quintic spline in :math:`\log \tau` through all
    points. It follows noise: smooth noisy correlators first. Source: derived in the
    chapter *Training under a microscope: Callan-Symanzik*.

    Parameters
    ----------
    times
        Training times :math:`\tau > 0`, increasing, shape (m,) with m >= 6; ratios of
        1.1 from one to the next leave errors of about 1e-5 at both ends and of 1e-7
        between them.
    second, fourth
        :math:`G_2 > 0` and :math:`G_4 > 0`, shape (m,).

    Returns
    -------
    Running
        Z, the coupling, beta and gamma at the times.

    Raises
    ------
    ValueError
        If a shape does not fit or a number is not finite and > 0.
    """
    moments = require_times(times)
    require_all_positive(times=moments, second=second, fourth=fourth)
    g2, g4 = np.asarray(second, dtype=float), np.asarray(fourth, dtype=float)
    if len(moments) < 6 or g2.shape != moments.shape or g4.shape != moments.shape:
        raise ValueError(
            "times, second and fourth must have one shape (m,) with m >= 6, got "
            f"{moments.shape}, {g2.shape} and {g4.shape}"
        )
    log_time = np.log(moments)
    coupling = 3 - g4 / g2**2

    def derivative(values: Array) -> Array:
        spline = make_interp_spline(log_time, values, k=5)
        return np.asarray(spline.derivative()(log_time))

    return Running(g2, coupling, derivative(coupling), derivative(np.log(g2)) / 2)


class CallanSymanzik(NamedTuple):
    r"""The three terms of the equation and what they add up to.

    Attributes
    ----------
    coupling, beta, gamma
        :math:`g_R`, :math:`\beta` and :math:`\gamma` at the renormalisation point.
    terms
        :math:`\tau \partial_\tau G_R`, :math:`\beta\, \partial_{g_R} G_R` and
        :math:`n \gamma\, G_R`, shape (3, len(orders)).
    """

    coupling: float
    beta: float
    gamma: float
    terms: Array

    @property
    def residual(self) -> Array:
        """Size of the sum of the terms over that of the largest, (len(orders),)."""
        return np.asarray(
            np.abs(self.terms.sum(axis=0)) / np.abs(self.terms).max(axis=0)
        )


def callan_symanzik_residual(
    correlator: Correlator,
    coupling: float,
    tau: float,
    time: float,
    orders: Sequence[int],
    *,
    step: float = STEP,
) -> CallanSymanzik:
    r"""How well measured correlators obey the Callan-Symanzik equation.

    .. math:: \bigl[ \tau \partial_\tau + \beta(g_R)\, \partial_{g_R} + n\, \gamma(g_R)
        \bigr]\, G_{R,n}(t; g_R, \tau) = 0, \qquad G_{R,n} = Z(\tau)^{-n/2}\, G_n(t)

    The terms come from runs of their own, at different bare couplings and times:
    :math:`\beta` and :math:`\gamma` with the bare coupling held; :math:`\partial_\tau`
    with :math:`g_R` held, by solving for the bare coupling; :math:`\partial_{g_R}` with
    :math:`\tau` held. Source: derived in the chapter *Training under a microscope:
    Callan-Symanzik*.

    Parameters
    ----------
    correlator
        ``correlator(g, t, orders)`` returns :math:`G_n(t)` for the bare coupling g,
        shape (len(orders),).
    coupling
        Bare coupling, > 0.
    tau
        Renormalisation point :math:`\tau > 0`, a training time.
    time
        Training time t > 0 of the correlators, other than ``tau``.
    orders
        Powers n >= 1.
    step
        Step of the logarithms of times and couplings, from 1e-6 to 1.

    Returns
    -------
    CallanSymanzik
        The terms for each order; ``residual`` relates their sum to the largest.

    Raises
    ------
    ValueError
        If an argument is out of range, ``time`` equals ``tau`` (the equation is then
        empty for n = 2), or no bare coupling near the given one has the same
        :math:`g_R` a step later.
    TypeError
        If ``correlator`` is no function.
    """
    require_callable(correlator=correlator)
    require_positive(coupling=coupling, tau=tau, time=time, step=step)
    require_between(1e-6, 1.0, step=step)
    n = require_integers("orders", orders, 1)
    if time == tau:
        raise ValueError(f"time must differ from tau, got {time} for both")

    def measured(bare: float, at: float, powers: Sequence[int]) -> Array:
        values = correlator(bare, at, powers)
        return require_returned("correlator", values, (len(powers),))

    def renormalised(bare: float, at: float) -> Array:
        second, fourth = measured(bare, at, (2, 4))
        return np.array([math.log(second), 3 - fourth / second**2])

    def green(bare: float, at: float) -> Array:
        log_scale, _ = renormalised(bare, at)
        return np.asarray(np.exp(-n / 2 * log_scale) * measured(bare, time, orders))

    _, g = renormalised(coupling, tau)

    def with_same_coupling(x: float) -> Array:
        at = tau * math.exp(x)

        def excess(log_ratio: float) -> float:
            return float(renormalised(coupling * math.exp(log_ratio), at)[1] - g)

        try:
            shift = brentq(excess, -8 * step, 8 * step, xtol=1e-9)
        except ValueError as error:
            raise ValueError(
                f"coupling must have a neighbour of the same g_R = {g:.6g} at tau = "
                f"{at:.6g}, got {coupling}"
            ) from error
        return green(coupling * math.exp(shift), at)

    log_scale_slope, beta = _log_derivative(
        lambda x: renormalised(coupling, tau * math.exp(x)), step
    )
    per_bare = _log_derivative(lambda x: green(coupling * math.exp(x), tau), step)
    g_per_bare = _log_derivative(
        lambda x: renormalised(coupling * math.exp(x), tau), step
    )[1]
    gamma = log_scale_slope / 2
    terms = np.stack(
        [
            _log_derivative(with_same_coupling, step),
            beta * per_bare / g_per_bare,
            n * gamma * green(coupling, tau),
        ]
    )
    return CallanSymanzik(float(g), float(beta), float(gamma), terms)


# --- the stationary density ---------------------------------------------------------


class StaticFlow(NamedTuple):
    r"""The stationary density of a quartic loss in renormalised terms; arrays (m,).

    Attributes
    ----------
    mass
        :math:`\mu = \sqrt{T / \langle W^2 \rangle}`.
    coupling
        :math:`G = 3 - \langle W^4 \rangle / \langle W^2 \rangle^2`.
    beta
        :math:`dG / d \log \mu` at fixed bare coupling and temperature.
    """

    mass: Array
    coupling: Array
    beta: Array


def static_flow(
    curvature: ArrayLike, coupling: float, temperature: float
) -> StaticFlow:
    r"""Run of the stationary coupling with the curvature of the loss.

    .. math:: p \sim e^{-(a W^2/2 + g W^4/4)/T}, \qquad
        \frac{\partial \langle W^n \rangle}{\partial a} = -\frac{1}{2T}
        \langle W^n; W^2 \rangle, \qquad
        \beta = \frac{\partial G / \partial a}{\partial \log \mu / \partial a}

    with connected averages, :math:`\langle X; Y \rangle = \langle XY \rangle - \langle
    X \rangle \langle Y \rangle`. :math:`G = 0` is the Gaussian end (:math:`a \to
    \infty`), :math:`G = 2` that of two separate valleys (:math:`a \to -\infty`).
    Source: derived in the chapter *Training under a microscope: Callan-Symanzik*.

    Parameters
    ----------
    curvature
        :math:`a`, of either sign, shape (m,) or a number.
    coupling
        Bare coupling g > 0.
    temperature
        :math:`T > 0`.

    Returns
    -------
    StaticFlow
        Mass, coupling and beta for each curvature.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    moment = _static_moments(curvature, coupling, temperature, (2, 4, 6))
    second, fourth, sixth = moment.T
    rate = -1 / (2 * temperature)
    second_slope = rate * (fourth - second**2)
    fourth_slope = rate * (sixth - fourth * second)
    mass_slope = -second_slope / (2 * second)
    ratio = fourth / second**2
    coupling_slope = -(fourth_slope / second**2 - 2 * ratio * second_slope / second)
    return StaticFlow(
        np.sqrt(temperature / second), 3 - ratio, coupling_slope / mass_slope
    )


def static_residual(
    curvature: float, coupling: float, temperature: float, orders: Sequence[int]
) -> Array:
    r"""How well the stationary density obeys Callan's equation with a mass insertion.

    .. math:: \Bigl[ \mu \partial_\mu + \beta(G)\, \partial_G \Bigr] G_n(\mu, G)
        = -\frac{1}{2T} \frac{da}{d \log \mu} \langle W^n; W^2 \rangle

    The left side, the change of :math:`G_n` with :math:`\log \mu` at fixed bare
    coupling, comes from moments at other curvatures, by differences; the right side
    from connected averages at this one. Source: derived in the chapter *Training under
    a microscope: Callan-Symanzik*.

    Parameters
    ----------
    curvature
        :math:`a`, of either sign.
    coupling
        Bare coupling g > 0.
    temperature
        :math:`T > 0`.
    orders
        Powers n >= 1, even: for odd ones both sides vanish.

    Returns
    -------
    array
        Difference of the sides over the right side, shape (len(orders),).

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    require_finite(curvature=curvature)
    require_positive(coupling=coupling, temperature=temperature)
    if np.any(require_integers("orders", orders, 1) % 2):
        raise ValueError(f"orders must be even, got {list(orders)}")
    needed = (2, 4, *orders, *(n + 2 for n in orders))

    def averages(a: float) -> Array:
        return np.asarray(_static_moments(a, coupling, temperature, needed)[0])

    # Large enough for rounding, small enough for differences of fourth order.
    unit = abs(curvature) + math.sqrt(coupling * temperature)

    def log_mass_and_green(x: float) -> Array:
        found = averages(curvature + unit * x)
        return np.concatenate([[-math.log(found[0]) / 2], found[2 : 2 + len(orders)]])

    change = _log_derivative(log_mass_and_green, 2e-3)
    left = change[1:] / change[0]
    second, fourth, *rest = averages(curvature)
    green, higher = np.split(np.array(rest), 2)
    a_slope = 4 * temperature * second / (fourth - second**2)
    right = -a_slope / (2 * temperature) * (higher - green * second)
    return np.asarray(np.abs(left / right - 1))


def _static_moments(
    curvature: ArrayLike, coupling: float, temperature: float, orders: Sequence[int]
) -> Array:
    """By the trapezoidal rule, exact to rounding for a density that decays so fast."""
    a = np.atleast_1d(require_array("curvature", curvature))
    if a.ndim != 1:
        raise ValueError(f"curvature must be finite, shape (m,), got {curvature!r}")
    require_positive(coupling=coupling, temperature=temperature)
    lowest = np.where(a < 0, -(a**2) / (4 * coupling), 0.0)
    # Where a w^2 / 2 + g w^4 / 4 is 40 temperatures above its minimum.
    level = EXPONENT * temperature + lowest
    root = np.sqrt(a**2 + 4 * coupling * level)
    edge = np.where(a > 0, 2 * level / np.maximum(a + root, 1e-300), 0.0)
    edge = np.where(a > 0, 2 * edge, (root - a) / coupling)
    w = np.sqrt(edge)[:, None] * np.linspace(0, 1, 4001)
    energy = a[:, None] * w**2 / 2 + coupling * w**4 / 4 - lowest[:, None]
    weight = np.exp(-energy / temperature)
    weight[:, 0] /= 2
    norm = weight.sum(axis=1)
    return np.stack([(weight * w**n).sum(axis=1) / norm for n in orders], axis=1)


# --- a marginal coupling ------------------------------------------------------------


class Survival(NamedTuple):
    """Probability of not having reached 0, and its local exponent; arrays (m,)."""

    probability: Array
    exponent: Array


def survival(
    strength: float, temperature: float, start: float, times: ArrayLike
) -> Survival:
    r"""Survival in a logarithmic potential: an exponent that varies with the coupling.

    .. math:: dr = \frac{k}{r}\, dt + \sqrt{2T}\, dB, \qquad
        S(t) = P\Bigl( \nu, \frac{r_0^2}{4 T t} \Bigr) \sim t^{-\nu}, \qquad
        \nu = \frac12 - \frac{k}{2T},

    with the regularised incomplete gamma function P. The coupling k has no dimension
    and does not run: :math:`-t\, \partial_t \log S \to \nu(k)`. Source: derived in the
    chapter *Training under a microscope: Callan-Symanzik*.

    Parameters
    ----------
    strength
        :math:`k < T`; from k = T on, 0 is never reached.
    temperature
        :math:`T > 0`.
    start
        :math:`r_0 > 0`.
    times
        Times, > 0 and increasing, shape (m,).

    Returns
    -------
    Survival
        S and :math:`-d \log S / d \log t`.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    moments = _checked_survival(strength, temperature, start, times)
    nu = 0.5 - strength / (2 * temperature)
    x = start**2 / (4 * temperature * moments)
    probability = gammainc(nu, x)
    slope = np.exp(nu * np.log(x) - x - math.lgamma(nu))
    return Survival(probability, slope / probability)


def survival_from_density(
    strength: float,
    temperature: float,
    start: float,
    times: ArrayLike,
    cells: int = 2000,
) -> Survival:
    r"""Survival in a logarithmic potential, from the Fokker-Planck equation.

    .. math:: \partial_t p = -\partial_r \Bigl( \frac kr\, p \Bigr)
        + T\, \partial_r^2 p, \qquad \text{absorbed at } r = 0

    The rate of absorption from the first cell is that of the stationary flux between
    its centre, at :math:`h/2`, and 0: :math:`2 (T - k) / h^2`. Errors are of first
    order in the width h of a cell for k < 0, of second order for k = 0, and of order
    :math:`1 - k/T` for k > 0, down to the error of the time steps, which for k = 0 is
    about 1e-5. Source: derived in the
    chapter *Training under a microscope: Callan-Symanzik*.

    Parameters
    ----------
    strength
        :math:`k < T`.
    temperature
        :math:`T > 0`.
    start
        :math:`r_0 > 0`.
    times
        Times, > 0 and increasing, shape (m,).
    cells
        Number of cells up to a radius that nothing reaches, >= 10.

    Returns
    -------
    Survival
        Mass that is left, and :math:`-d \log S / d \log t` from the flux into 0.

    Raises
    ------
    ValueError
        If an argument is out of range, or the cells are too wide for the start.
    """
    moments = _checked_survival(strength, temperature, start, times)
    require_integer(10, cells=cells)
    end = float(moments[-1])
    far = start + SPREADS * math.sqrt(2 * temperature * end)
    if strength > 0:
        far += math.sqrt(2 * strength * end)
    width = far / cells
    if start < 4 * width:
        raise ValueError(
            f"cells must be at least {math.ceil(4 * far / start)} for a start at "
            f"{start:g}, got {cells}"
        )
    # A centre on the start: the mass of one cell is then at the right place.
    width = start / (math.floor(start / width) + 0.5)
    grid = Grid(0.0, width * cells, cells)
    equation = FokkerPlanck(
        grid, temperature, potential=lambda r: -strength * np.log(r[:, 0])
    )
    generator = equation.generator.tolil()
    rate = 2 * (temperature - strength) / width**2
    generator[0, 0] -= rate
    mass = np.zeros(cells)
    mass[round(start / width - 0.5)] = 1.0
    states = np.stack(list(march(generator.tocsc(), mass, moments.tolist(), 4 * STEPS)))
    left = states.sum(axis=1)
    return Survival(left, moments * rate * states[:, 0] / left)


def _checked_survival(
    strength: float, temperature: float, start: float, times: ArrayLike
) -> Array:
    require_positive(temperature=temperature, start=start)
    given = require_real("strength", strength)
    if given.ndim != 0 or not -LARGEST <= given < temperature:
        raise ValueError(
            f"strength must be below the temperature {temperature}, got {strength}"
        )
    moments = require_times(times)
    require_all_positive(times=moments)
    return moments
