r"""Random networks of infinite size: their chaos and their fixed points.

In :math:`\dot x_i = -x_i + g \sum_j J_{ij} \tanh x_j` with :math:`N \to \infty`
independent couplings of variance :math:`1/N`, one neuron sees Gaussian noise with the
autocorrelation of its own output. Its own autocorrelation :math:`\Delta(\tau)` moves as
a particle would in the potential V, with the average over two Gaussian variables of
variance :math:`\Delta(0)` and covariance c,

.. math:: \Delta'' = -\frac{\partial V}{\partial \Delta}, \qquad
    V(\Delta) = -\frac{\Delta^2}2 + g^2 \int_0^\Delta
    \langle \phi(x) \phi(x') \rangle_c\, dc, \qquad \phi = \tanh .

Chaos is the orbit that starts at rest and ends on top of the hill at :math:`\Delta = 0`
(:func:`mean_field_dynamics`). A neuron that rests has the law of
:func:`static_mean_field`, couplings being partly symmetric, :math:`N E\, J_{ij} J_{ji}
= \gamma`, if need be. Fixed points are exponentially many, and most of them are
elsewhere (:func:`typical_fixed_points`).

Conventions: x is the state of a neuron, :math:`z \sim N(0, 1)`; times are in units of
the neurons' time constant.

Source: Sompolinsky, Crisanti and Sommers, Phys. Rev. Lett. 61, 259 (1988); Crisanti and
Sompolinsky, Phys. Rev. E 98, 062120 (2018); derived in the chapter *The edge of chaos
by replicas*.
"""

from typing import NamedTuple

import numpy as np
from numpy.polynomial import Chebyshev
from numpy.polynomial.chebyshev import chebpts1, chebvander
from numpy.polynomial.legendre import legder, leggauss, legvander
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from scipy.linalg import eigh
from scipy.optimize import brentq

from fpbook.validation import (
    ROUNDING,
    require_between,
    require_integer,
    require_positive,
)

Array = NDArray[np.float64]

# --- Gaussian averages --------------------------------------------------------------

REACH = 8.5
"""Standard deviations kept of a Gaussian law; 1e-16 of its peak is left there."""
LARGEST_GAIN = 10.0
"""Gains up to here are resolved; averages take a time that grows as their square."""


def _normal(g: float) -> tuple[Array, Array]:
    """Points and weights for averages over z, in steps of 0.3 / g.

    The states' standard deviation is below g; tanh of it has its poles at pi / (2 g) at
    least. The trapezoidal sum then errs by exp(-pi^2 / 0.3), which is rounding.
    """
    half = int(np.ceil(REACH * g / 0.3))
    z = np.linspace(-REACH, REACH, 2 * half + 1)
    weights = np.exp(-(z**2) / 2)
    return z, weights / weights.sum()


def _require_chaotic(g: float) -> None:
    require_positive(g=g)
    if not 1 < g <= LARGEST_GAIN:
        raise ValueError(
            f"g must be > 1, where states other than x = 0 exist, and at most "
            f"{LARGEST_GAIN:g}, got {g}"
        )


# --- chaos --------------------------------------------------------------------------


class MeanFieldDynamics(NamedTuple):
    """The chaotic state of an infinite network."""

    variance: float
    r"""Mean of :math:`x^2`, which is :math:`\Delta(0)`."""
    activity: float
    r"""Mean of :math:`\tanh^2 x`."""
    kinetic_energy: float
    r"""Mean of :math:`\dot x^2`, which is :math:`-\Delta''(0)`."""
    times: Array
    r"""Lags :math:`\tau`, shape (points,)."""
    autocorrelation: Array
    r""":math:`\Delta(\tau)`, shape (points,)."""
    lyapunov: float
    """Largest Lyapunov exponent."""


def mean_field_dynamics(
    g: float, *, longest: float = 60.0, points: int = 601
) -> MeanFieldDynamics:
    r"""Solve for the chaos of independent couplings.

    .. math::
        V(\Delta(0)) &= 0, \qquad \dot\Delta = -\sqrt{-2 V(\Delta)}, \qquad
        \langle \dot x^2 \rangle = g^2 \langle \phi^2 \rangle - \Delta(0), \\
        \lambda &= -1 + \sqrt{1 - E_0}

    with the ground state :math:`E_0` of :math:`-\partial_\tau^2 + 1 - g^2 \langle
    \phi'(x) \phi'(x') \rangle_{\Delta(\tau)}` on the whole line.

    Parameters
    ----------
    g
        Gain, > 1 and at most 10.
    longest
        Largest lag, > 0, a time.
    points
        Number of lags from 0 to the largest, >= 2.

    Returns
    -------
    MeanFieldDynamics
        Variance, activity, kinetic energy, autocorrelation, Lyapunov exponent. For
        g >= 1.05 their relative errors are below 1e-9.

    Raises
    ------
    ValueError
        If g <= 1, where there is no chaos, or an argument is out of range.
    FloatingPointError
        If the averages are not resolved or the orbit does not reach the top.

    Notes
    -----
    The orbit is parametrised by :math:`t = \sqrt{1 - \Delta / \Delta(0)}`, which moves
    from 0 to 1 with a speed that is smooth at both ends; E_0 is Rayleigh and Ritz's
    with polynomials in t, so that no lag is too long. Source: the module's docstring.

    Examples
    --------
    >>> chaos = mean_field_dynamics(1.5)
    >>> print(f"{chaos.variance:.4f} {chaos.lyapunov:.4f}")
    0.7477 0.0467
    """
    _require_chaotic(g)
    require_positive(longest=longest)
    require_integer(2, points=points)
    variance = _chaotic_variance(g)
    z, weights = _normal(g)
    activity = float(weights @ np.tanh(variance**0.5 * z) ** 2)
    outputs, slopes = _correlations(g, variance)
    rate = _rate(g, outputs)
    times = np.linspace(0, longest, points)
    return MeanFieldDynamics(
        variance=variance,
        activity=activity,
        kinetic_energy=g**2 * activity - variance,
        times=times,
        autocorrelation=variance * _orbit(rate, times),
        lyapunov=(1 - _ground_state(g, slopes, rate)) ** 0.5 - 1,
    )


def _chaotic_variance(g: float) -> float:
    """Root of the potential at the start, where x and x' are the same variable.

    The integral of <phi phi'> over c is then the variance of log cosh x.
    """
    z, weights = _normal(g)

    def height(variance: float) -> float:
        # log cosh without loss of digits where it is small, as it is near g = 1.
        primitive = np.log1p(2 * np.sinh(variance**0.5 * z / 2) ** 2)
        primitive -= weights @ primitive
        spread = weights @ primitive**2
        return float(g**2 * spread / variance**2 - 1 / 2)

    # From g - 1 near the transition to a share of g^2 far above it.
    return float(brentq(height, (g - 1) / 2, g**2, xtol=1e-15 * (g - 1), rtol=1e-15))


DEGREE = 47
"""Of the polynomials in t; at g = 5 the last coefficients are rounding."""
RESOLVED = 1e-7
"""Largest last coefficient that is allowed, relative to the first."""


def _correlations(g: float, variance: float) -> tuple[Chebyshev, Chebyshev]:
    """Means of phi phi' / c and of the slopes' product, as polynomials in t.

    A correlation of 1 - t^2 is that of two variables with a shared and an own part.
    Given the shared one, their averages are independent; its two signs are alike.
    """
    z, weights = _normal(g)
    shared = z[len(z) // 2 :]
    shared_weights = 2 * weights[len(z) // 2 :]
    shared_weights[0] /= 2
    values = []
    for t in (1 + chebpts1(DEGREE + 1)) / 2:
        c = variance * (1 - t**2)
        phi = np.tanh(np.add.outer(c**0.5 * shared, variance**0.5 * t * z))
        output, slope = phi @ weights, 1 - phi**2 @ weights
        values.append(shared_weights @ np.stack([output**2 / c, slope**2], axis=1))
    outputs, slopes = (_polynomial(column) for column in np.transpose(values))
    for series in (outputs, slopes):
        if not np.abs(series.coef[-3:]).max() < RESOLVED * abs(series.coef[0]):
            raise FloatingPointError(f"averages are not resolved at g = {g}")
    return outputs, slopes


def _polynomial(values: Array) -> Chebyshev:
    """Interpolate values at the Chebyshev points of [0, 1]."""
    n = len(values)
    coefficients = 2 / n * values @ chebvander(chebpts1(n), n - 1)
    coefficients[0] /= 2
    return Chebyshev(coefficients, domain=[0, 1])


def _rate(g: float, outputs: Chebyshev) -> Chebyshev:
    r"""Speed of t in units of 1 - t^2, as a polynomial in t.

    With the force :math:`F = -\partial V / \partial \Delta`, and :math:`V(0) = V(\Delta
    (0)) = 0`, the energy is an integral from either end. One is exact at rest, the
    other on top of the hill, where the difference of the two terms would be rounding.
    """
    nodes, weights = leggauss(32)
    share, weights = (1 + nodes) / 2, weights / 2
    t = (1 + chebpts1(DEGREE + 1)) / 2
    s = np.multiply.outer(t, share)
    from_start = ((1 - s**2) * (g**2 * outputs(s) - 1)) @ (share * weights)
    s = np.sqrt(1 - np.multiply.outer(1 - t**2, share))
    from_top = 1 - 2 * g**2 * outputs(s) @ (share * weights)
    squared = np.where(t < 1 / 2, from_start / (1 - t**2) ** 2, from_top / (4 * t**2))
    if not np.all(squared > 0):
        raise FloatingPointError(f"the orbit does not reach the top at g = {g}")
    return _polynomial(np.sqrt(squared))


def _orbit(rate: Chebyshev, times: Array) -> Array:
    """Autocorrelation relative to its start: 1 - t^2 with t = tanh y, y' = rate."""
    solved = solve_ivp(
        lambda _, y: rate(np.tanh(y)),
        (0, times[-1]),
        [0.0],
        method="DOP853",
        t_eval=times,
        rtol=1e-11,
        atol=1e-12,
    )
    if not solved.success:
        raise FloatingPointError(f"the orbit is lost: {solved.message}")
    decay = np.exp(-2 * solved.y[0])
    relative: Array = 4 * decay / (1 + decay) ** 2
    return relative


TRIALS = 48
"""Trial functions of the ground state."""


def _ground_state(g: float, slopes: Chebyshev, rate: Chebyshev) -> float:
    """Smallest energy, with trial functions (1 - t) times Legendre polynomials in t.

    All are even in the lag and vanish at infinity; dtau = dt / speed.
    """
    nodes, weights = leggauss(2 * TRIALS)
    t, weights = (1 + nodes) / 2, weights / 2
    legendre = legvander(nodes, TRIALS - 1)
    psi = (1 - t)[:, None] * legendre
    # d/dt = 2 d/dnode; the derivatives' columns are those of the identity's series.
    derivative = legvander(nodes, TRIALS - 2) @ legder(np.eye(TRIALS))
    slope = 2 * (1 - t)[:, None] * derivative - legendre
    speed = (1 - t**2) * rate(t)
    potential = 1 - g**2 * slopes(t)
    norm = psi.T @ ((weights / speed)[:, None] * psi)
    energy = slope.T @ ((weights * speed)[:, None] * slope)
    energy += psi.T @ ((weights * potential / speed)[:, None] * psi)
    return float(eigh(energy, norm, eigvals_only=True, subset_by_index=[0, 0])[0])


# --- neurons at rest ----------------------------------------------------------------


class StaticMeanField(NamedTuple):
    """The static solution of the mean-field theory."""

    activity: float
    r"""Mean of :math:`\tanh^2 x`, C."""
    response: float
    r"""Mean change of :math:`\tanh x` with a static field, R."""
    variance: float
    r"""Mean of :math:`x^2`."""
    stability: float
    r""":math:`g^2 \langle (d \tanh x / dh)^2 \rangle`; below 1 the state is stable, and
    a limit of replicas."""


def static_mean_field(g: float, gamma: float) -> StaticMeanField:
    r"""Solve for neurons that rest in the static field of each other.

    .. math::
        x = h + \Gamma \phi(x), \qquad h = g \sqrt C\, z, \qquad
        \Gamma = g^2 \gamma R, \\
        C = \langle \phi^2 \rangle, \qquad
        R = \Bigl\langle \frac{d \phi}{d h} \Bigr\rangle
        = \frac{\langle z \phi \rangle}{g \sqrt C}, \qquad
        \frac{d \phi}{d h} = \frac{\phi'}{1 - \Gamma \phi'}

    For :math:`g \le 1 / (1 + \gamma)` only :math:`x = 0` is left, with :math:`R (1 -
    g^2 \gamma R) = 1`.

    Parameters
    ----------
    g
        Gain, > 0 and at most 10.
    gamma
        Symmetry of the couplings, from -1 to 1.

    Returns
    -------
    StaticMeanField
        Activity, response, variance, stability.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    For :math:`\Gamma > 1` (strong and symmetric couplings) a weak field leaves a neuron
    two stable states. It is given that of the sign of the field, which has the lower
    energy :math:`x^2/2 - hx - \Gamma \log \cosh x` and continues the solution from
    :math:`\Gamma < 1`. The state then jumps where the field changes its sign: R counts
    these jumps, by its second form, and the stability, the mean of a squared rate, is
    infinite. Source: the module's docstring.
    """
    require_positive(g=g)
    if g > LARGEST_GAIN:
        raise ValueError(f"g must be at most {LARGEST_GAIN:g}, got {g}")
    require_between(-1, 1, gamma=gamma)
    if g * (1 + gamma) <= 1 + ROUNDING:
        # The square root is that of a number >= 0 up to rounding.
        response = 2 / (1 + max(1 - 4 * g**2 * gamma, 0.0) ** 0.5)
        return StaticMeanField(0.0, response, 0.0, (g * response) ** 2)
    feedback = _feedback(g, gamma)
    field = _field(g, feedback)
    law = _resting_law(field, feedback)
    return StaticMeanField(
        activity=law.activity,
        response=law.response,
        variance=law.variance,
        stability=g**2 * law.squared_response,
    )


def _feedback(g: float, gamma: float) -> float:
    """Find Gamma between values that bracket it.

    R is at most 1 / g by Cauchy and Schwarz; a state other than 0 needs Gamma > 1 - g.
    Near the transition the bounds are the root itself, but for rounding.
    """
    if gamma == 0:
        return 0.0
    lowest = 1 - g if gamma < 0 else max(1 - g, 0.0)
    highest = max(g * gamma, 0.0) + ROUNDING

    def defect(feedback: float) -> float:
        law = _resting_law(_field(g, feedback), feedback)
        return feedback - g**2 * gamma * law.response

    return float(brentq(defect, lowest, highest, xtol=1e-15, rtol=1e-14))


def _field(g: float, feedback: float) -> float:
    """Standard deviation of the field, g sqrt C, given Gamma; 0 if all are at rest."""

    def defect(field: float) -> float:
        return g**2 * _resting_law(field, feedback).activity / field**2 - 1

    # A smaller field could not be told from 0.
    smallest = 1e-7 * g
    if feedback < 1 and (1 - feedback >= g or defect(smallest) <= 0):
        return 0.0
    return float(brentq(defect, smallest, g, xtol=1e-15, rtol=1e-14))


class _RestingLaw(NamedTuple):
    """Averages given the standard deviation of the field."""

    activity: float
    response: float
    variance: float
    squared_response: float


STATES, STATE_WEIGHTS = leggauss(200)
"""Gauss points on the positive states, relative to their range."""


def _resting_law(field: float, feedback: float) -> _RestingLaw:
    """Averages over x > 0, which stand for all by symmetry, in x itself.

    The field h = x - Gamma tanh x is smooth in x, x is not smooth in h.
    """
    if field == 0:
        response = 1 / (1 - feedback)
        return _RestingLaw(0.0, response, 0.0, response**2)
    first = _state(0.0, feedback)
    last = _state(REACH * field, feedback)
    x = first + (1 + STATES) * (last - first) / 2
    phi = np.tanh(x)
    slope = 1 - phi**2
    z = (x - feedback * phi) / field
    # Twice the normal density, times dx; dz / dx is (1 - Gamma phi') / field.
    density = (
        (2 / np.pi) ** 0.5 * np.exp(-(z**2) / 2) * STATE_WEIGHTS * (last - first) / 2
    )
    law = density * (1 - feedback * slope) / field
    squared = density @ (slope**2 / (1 - feedback * slope)) / field
    return _RestingLaw(
        activity=float(law @ phi**2),
        response=float(law @ (z * phi)) / field,
        variance=float(law @ x**2),
        squared_response=float(squared) if feedback < 1 else np.inf,
    )


def _state(h: float, feedback: float) -> float:
    """Largest state x >= 0 in the field h >= 0."""
    if h == 0 and feedback < 1 + ROUNDING:
        return 0.0
    # Above it the defect is positive, tanh being below 1, and room is left to round.
    highest = 1.01 * (h + max(feedback, 0.0))
    # The defect is smallest, and negative, where Gamma phi' = 1.
    lowest = float(np.arccosh(max(feedback, 1.0) ** 0.5))
    return float(
        brentq(lambda x: x - feedback * np.tanh(x) - h, lowest, highest, xtol=1e-300)
    )


# --- fixed points -------------------------------------------------------------------


class TypicalFixedPoints(NamedTuple):
    r"""The most numerous fixed points; there are :math:`e^{N \Sigma}`."""

    complexity: float
    r""":math:`\Sigma`."""
    activity: float
    r"""Mean of :math:`\tanh^2 x` over neurons, q."""
    variance: float
    r"""Mean of :math:`x^2`."""
    measure_complexity: float
    r""":math:`\Sigma` of the fixed points with the static law, which are fewer."""


def typical_fixed_points(g: float) -> TypicalFixedPoints:
    r"""Count the fixed points of independent couplings, on average.

    .. math::
        \Sigma = \operatorname*{extr}_{q, \hat q, \tau} \Bigl\{ -\frac\tau2 - \hat q q
        + \log \Bigl\langle e^{\hat q \phi^2} (1 + \tau g^2 \phi'^2)^{1/2} \Bigr\rangle
        \Bigr\}, \qquad x = g \sqrt q\, z

    The expected number is :math:`e^{N \Sigma}`, by the formula of Kac and Rice. Those
    that the measure :math:`1 / |\det F'|` selects, with the law of
    :func:`static_mean_field`, have :math:`\Sigma_0 = \max_\tau \{-\tau/2 + \frac12
    \langle \log(1 + \tau g^2 \phi'^2) \rangle\}`.

    Parameters
    ----------
    g
        Gain, > 1 and at most 10.

    Returns
    -------
    TypicalFixedPoints
        Complexity, activity and variance, and the complexity of the others.

    Raises
    ------
    ValueError
        If g <= 1, where x = 0 is alone, or g is out of range.
    FloatingPointError
        If the extremum is not found, as happens for g < 1.001 where it is too flat.

    Notes
    -----
    The mean may exceed the typical number. At the extremum :math:`\langle x^2 \rangle =
    g^2 q\, (1 + 2 \hat q q)`. For small :math:`\epsilon = g - 1`, :math:`\Sigma =
    \frac{16}{81} \epsilon^3` at :math:`q = \frac23 \epsilon`, and :math:`\Sigma_0 =
    \frac49 \epsilon^4` at :math:`q = \epsilon`. Source: derived in the chapter *The
    edge of chaos by replicas*, in the manner of Wainrib and Touboul, Phys. Rev. Lett.
    110, 118101 (2013).
    """
    _require_chaotic(g)
    static = static_mean_field(g, 0.0)
    # Near g = 1 the three are 2/3, -1/2 and 2/3 (g - 1), far above it 0.7, -0.3, 0.5.
    unknowns = np.array(
        [
            np.log(0.7 * static.activity),
            -0.3 - 0.2 / g**2,
            2 / 3 * (1 - 1 / g),
        ]
    )
    for _ in range(NEWTON_STEPS):
        found = _annealed(g, *unknowns)
        step = np.linalg.solve(found.hessian, found.gradient)
        unknowns = unknowns - step
        if np.abs(step).max() < STEP:
            break
    else:
        raise FloatingPointError(f"typical fixed points are not found at g = {g}")
    q = float(np.exp(unknowns[0]))
    return TypicalFixedPoints(
        complexity=found.value,
        activity=q,
        variance=float(g**2 * q * (1 + 2 * unknowns[1] * q)),
        measure_complexity=_static_complexity(g, static.variance),
    )


NEWTON_STEPS = 50
STEP = 1e-8
"""The last of Newton's steps. For g < 1.001 rounding makes larger ones."""


class _Annealed(NamedTuple):
    """The exponent of the number of fixed points, with its derivatives."""

    value: float
    gradient: Array
    hessian: Array


def _annealed(g: float, log_q: float, qhat: float, tau: float) -> _Annealed:
    """Exponent and its derivatives by log q, qhat and tau.

    Those of the logarithm of an average are cumulants of the logarithm's derivatives.
    """
    z, weights = _normal(g)
    q = np.exp(log_q)
    phi2 = np.tanh(g * q**0.5 * z) ** 2
    stretch = 1 + tau * g**2 * (1 - phi2) ** 2
    law = weights * np.exp(qhat * phi2) * stretch**0.5
    total = law.sum()
    law /= total
    scores = np.stack([(z**2 - 1) / 2, phi2, g**2 * (1 - phi2) ** 2 / (2 * stretch)])
    means = scores @ law
    centred = scores - means[:, None]
    hessian = centred * law @ centred.T
    hessian += np.diag([-(law @ z**2) / 2 - qhat * q, 0, -2 * (law @ scores[2] ** 2)])
    hessian[0, 1] -= q
    hessian[1, 0] -= q
    return _Annealed(
        value=float(np.log(total) - tau / 2 - qhat * q),
        gradient=means - [qhat * q, q, 1 / 2],
        hessian=hessian,
    )


def _static_complexity(g: float, variance: float) -> float:
    """Maximum for the static law, at a tau of at most 1, as its average shows."""
    z, weights = _normal(g)
    squared = g**2 * (1 - np.tanh(variance**0.5 * z) ** 2) ** 2
    tau = brentq(lambda t: weights @ (squared / (1 + t * squared)) - 1, 0, 1)
    return float(weights @ np.log1p(tau * squared) - tau) / 2
