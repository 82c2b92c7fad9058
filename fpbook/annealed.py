r"""Annealed theory of the speed energy of random networks: three numbers and one law.

The Boltzmann law :math:`e^{-E/T}` of :math:`E = \frac12 |F|^2`, for the velocity
:math:`F = -x + g J \tanh x` and couplings of symmetry :math:`\gamma`
(:mod:`fpbook.random_networks`), averaged over the couplings before the logarithm is
taken, leaves one neuron with

.. math:: P(x) \propto \exp\Bigl\{ -\frac{y^2}{2s} + \hat q\, \phi^2 \Bigr\}, \qquad
    y = x - \Gamma \phi, \quad \phi = \tanh x, \quad
    s = T + g^2 q, \quad \Gamma = g^2 \gamma\, r,

    q = \langle \phi^2 \rangle, \qquad r = \frac{\langle y \phi \rangle}{s}, \qquad
    2 \hat q = g^2 \Bigl( \frac{\langle y^2 \rangle}{s^2} - \frac1s \Bigr) .

This *paramagnet* is also the replica-symmetric solution wherever the overlap of two
replicas is zero (:mod:`fpbook.replicas`). All averages are taken in units of
:math:`\sqrt s`, in which nothing diverges when :math:`T \to 0`.

Source: the model and its theory are of Qiu and Huang, Commun. Theor. Phys. 77, 035601
(2025); the equations, the limits and the exponent at fixed activity are derived in the
chapter *The edge of chaos by replicas*.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpbook.validation import (
    require_all_non_negative,
    require_all_positive,
    require_array,
    require_between,
    require_finite,
    require_flag,
    require_non_negative,
    require_real,
)

Array = NDArray[np.float64]

RESIDUAL = 1e-10
"""Largest residual of a solution that is returned."""

HOT = 10.0
"""Temperature from which solutions are followed; there the averages contract."""
COLD = 1e-9
"""Temperature from which the step to 0 is made."""
RUNGS_PER_DECADE = 3

# Laws are analytic and a spacing of 0.3 of their width leaves an error of exp(-2 pi^2
# / 0.3^2), far below rounding; their tails are cut where they are below exp(-38).
POINTS = 301
TAIL = 76.0

STEPS = 60
HALVINGS = 12
CONVERGED = 1e-13


# --- closed forms -------------------------------------------------------------------


def critical_gains(gamma: ArrayLike) -> tuple[Array, Array]:
    r"""Gains where the origin loses its stability, and its weight.

    .. math:: g_c = \frac1{1 + \gamma}, \qquad g_* = \frac1{\sqrt{1 + \gamma}}

    Parameters
    ----------
    gamma
        Symmetry of the couplings, > -1 and <= 1.

    Returns
    -------
    tuple of arrays
        The two gains, of the shape of ``gamma``.

    Raises
    ------
    ValueError
        If gamma is out of range.

    Notes
    -----
    Source: the edge of the elliptic law; the slope of :func:`annealed_exponent` at
    q = 0, derived in the chapter *The edge of chaos by replicas*.
    """
    values = require_real("gamma", gamma)
    if not np.all((values > -1) & (values <= 1)):
        raise ValueError(f"gamma must be > -1 and <= 1, got {gamma!r}")
    return 1 / (1 + values), (1 + values) ** -0.5


def trivial_weight(g: ArrayLike, gamma: ArrayLike) -> Array:
    r"""Weight of the fixed point x = 0, from the elliptic law.

    .. math:: W_0 = \lim_{N \to \infty} \frac1N \ln \frac1{|\det(gJ - 1)|} =
        \begin{cases}
        \frac12 - \frac z{z + \rho} - \ln \frac{z + \rho}2 - \ln g
        & g (1 + \gamma) < 1 \\
        -\ln g - \frac12 \bigl[ \frac1{g^2 (1 + \gamma)} - 1 \bigr]
        & g (1 + \gamma) \ge 1
        \end{cases}

    with :math:`z = 1 / g` and :math:`\rho = \sqrt{z^2 - 4 \gamma}`.

    Parameters
    ----------
    g
        Gain, > 0.
    gamma
        Symmetry of the couplings, from -1 to 1; broadcast with ``g``.

    Returns
    -------
    array
        Exponent per neuron, of the common shape.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    Source: the potential of the elliptic law, Sommers et al., Phys. Rev. Lett. 60, 1895
    (1988); derived in the chapter *The edge of chaos by replicas*.
    """
    gains, symmetries = _read(g, gamma)
    z = 1 / gains
    root = np.sqrt(np.maximum(z**2 - 4 * symmetries, 0))
    outside = 0.5 - z / (z + root) - np.log((z + root) / 2)
    spread = np.maximum(1 + symmetries, 1e-300)
    inside = 0.5 - z**2 / (2 * spread)
    weight: Array = np.where(z > 1 + symmetries, outside, inside) - np.log(gains)
    return weight


def flattened(*arguments: ArrayLike) -> tuple[tuple[int, ...], list[Array]]:
    """Broadcast arguments together: their common shape, and each as a vector."""
    arrays = np.broadcast_arrays(
        *(np.asarray(argument, dtype=np.float64) for argument in arguments)
    )
    return arrays[0].shape, [array.ravel() for array in arrays]


def _read(g: ArrayLike, gamma: ArrayLike) -> tuple[Array, Array]:
    require_all_positive(g=g)
    gains, symmetries = np.broadcast_arrays(
        require_array("g", g), require_real("gamma", gamma)
    )
    if not np.all(np.abs(symmetries) <= 1):
        raise ValueError(f"gamma must be from -1 to 1, got {gamma!r}")
    return gains, symmetries


# --- averages in the law of one neuron ----------------------------------------------


def _law(s: Array, pull: Array, kappa: Array, points: int) -> tuple[Array, ...]:
    r"""Grids X, :math:`\psi`, weights (P, points) and logarithms of the integrals.

    In units of :math:`\sqrt s`: :math:`X = x / \sqrt s`, :math:`\psi = \phi / \sqrt s`
    and :math:`\kappa = s \hat q`.
    """
    top = 1 / np.sqrt(s)
    reach = 9 + np.maximum(pull, 0) * top + np.sqrt(2 * np.maximum(kappa, 0)) * top
    for _ in range(20):
        psi = np.minimum(reach, top)
        tail = np.sqrt(TAIL + 2 * np.maximum(kappa, 0) * psi**2)
        reach = np.minimum(reach, np.maximum(pull, 0) * psi + tail)
    X = np.linspace(-1, 1, points) * reach[:, None]
    psi = np.tanh(X / top[:, None]) * top[:, None]
    exponent = kappa[:, None] * psi**2 - (X - pull[:, None] * psi) ** 2 / 2
    highest = exponent.max(axis=1, keepdims=True)
    weights = np.exp(exponent - highest)
    total = weights.sum(axis=1)
    spacing = X[:, 1] - X[:, 0]
    logarithm = highest[:, 0] + np.log(total * spacing / np.sqrt(2 * np.pi))
    return X, psi, weights / total[:, None], logarithm


def _moments(features: Array, weights: Array) -> tuple[Array, Array]:
    """Means (P, f) and covariances (P, f, f) of features (P, f, points)."""
    mean = (features @ weights[:, :, None])[..., 0]
    second = (features * weights[:, None, :]) @ features.swapaxes(1, 2)
    return mean, second - mean[:, :, None] * mean[:, None, :]


class Equations(NamedTuple):
    """Defects (P, k) of some equations, and their derivatives (P, k, k)."""

    defect: Array
    slope: Array


def _paramagnet(v: Array, g: Array, gamma: Array, T: Array) -> Equations:
    r"""Equations of :math:`(\ln q, r, \kappa)`.

    The averages are of :math:`\psi^2, \psi Y, Y^2`. These are, up to factors, the
    derivatives of the exponent by kappa, Gamma and s, so that their covariances give
    all derivatives of the averages.
    """
    q, r, kappa = np.exp(v[:, 0]), v[:, 1], v[:, 2]
    s, pull = T + g**2 * q, g**2 * gamma * r
    X, psi, weights, _ = _law(s, pull, kappa, POINTS)
    Y = X - pull[:, None] * psi
    mean, spread = _moments(np.stack([psi**2, psi * Y, Y**2], axis=1), weights)
    by_s = spread[:, :, 2] / 2 - kappa[:, None] * spread[:, :, 0]
    by_s[:, 1:] = (by_s[:, 1:] - mean[:, 1:]) / s[:, None]
    by_pull = spread[:, :, 1].copy()
    by_pull[:, 1] -= mean[:, 0]
    by_pull[:, 2] -= 2 * mean[:, 1]
    half = g**2 / 2
    defect = np.stack(
        [s * mean[:, 0] / q - 1, mean[:, 1] - r, half * (mean[:, 2] - 1) - kappa], 1
    )
    slope = np.empty((len(v), 3, 3))
    slope[:, :, 0] = by_s * (g**2 * q)[:, None]
    slope[:, :, 1] = by_pull * (g**2 * gamma)[:, None]
    slope[:, :, 2] = spread[:, :, 0]
    slope[:, 0, 0] /= q
    slope[:, 0, 0] -= s * mean[:, 0] / q
    slope[:, 0, 1:] *= (s / q)[:, None]
    slope[:, 2] *= half[:, None]
    slope[:, [1, 2], [1, 2]] -= 1
    return Equations(defect, slope)


def _at_activity(v: Array, q: Array, g: Array, gamma: Array, T: Array) -> Equations:
    r"""Equations of :math:`(\Gamma, \kappa)` at fixed activity, in the same law."""
    pull, kappa = v.T
    s = T + g**2 * q
    X, psi, weights, _ = _law(s, pull, kappa + pull**2 / 2, POINTS)
    mean, spread = _moments(np.stack([psi**2, psi * X], axis=1), weights)
    share = g**2 * gamma * s / (s + g**2 * gamma * q)
    defect = np.stack([s * mean[:, 0] / q - 1, share * mean[:, 1] - pull], axis=1)
    slope = spread[:, :, ::-1] * np.stack([s / q, share], axis=1)[:, :, None]
    slope[:, 1, 0] -= 1
    return Equations(defect, slope)


Rows = NDArray[np.intp]


def _newton(
    equations: Callable[[Array, Rows], Equations], start: Array
) -> tuple[Array, Array]:
    """Solve at all points (P, k) at once; returns solutions and residuals (P,).

    The equations are evaluated at the points of some rows only: those still moving.
    """
    v = start.copy()
    moving = np.arange(len(v))
    defect, slope = equations(v, moving)
    residual = _size(defect, v)
    for _ in range(STEPS):
        regular = np.isfinite(slope[moving]).all(axis=(1, 2))
        moving = moving[regular & (residual[moving] > CONVERGED)]
        if len(moving) == 0:
            break
        step = np.linalg.solve(slope[moving], -defect[moving, :, None])[..., 0]
        length = np.abs(step / np.maximum(1, np.abs(v[moving]))).max(axis=1)
        step *= np.clip(0.7 / length.clip(1e-300), 0.02, 1)[:, None]
        worse = np.arange(len(moving))
        for halving in range(HALVINGS):
            rows = moving[worse]
            new = v[rows] + step[worse] / 2**halving
            with np.errstate(all="ignore"):
                new_defect, new_slope = equations(new, rows)
                new_residual = _size(new_defect, new)
            better = new_residual < residual[rows]
            v[rows[better]] = new[better]
            defect[rows[better]] = new_defect[better]
            slope[rows[better]] = new_slope[better]
            residual[rows[better]] = new_residual[better]
            worse = worse[~better]
            if len(worse) == 0:
                break
        moving = np.delete(moving, worse)
    return v, residual


def _size(defect: Array, v: Array) -> Array:
    """Largest defect, relative to large unknowns; infinity where it is no number."""
    size: Array = np.abs(defect / np.maximum(1, np.abs(v))).max(axis=1)
    return np.where(np.isfinite(size), size, np.inf)


# --- the paramagnet -----------------------------------------------------------------


class Paramagnet(NamedTuple):
    """Annealed order parameters, each of the shape of the arguments."""

    q: Array
    r"""Activity :math:`\langle \phi^2 \rangle`."""
    r: Array
    """Response of the output to a static field in the velocity."""
    qhat: Array
    """Conjugate of q, in 1 / temperature; nan where q = 0."""
    log_weight: Array
    r""":math:`\frac1N \ln [Z / (2 \pi T)^{N/2}]`; as T goes to 0, the same of
    :math:`\sum_* 1 / |\det F'(x_*)|`, the sum over fixed points."""
    stability: Array
    """Largest eigenvalue against an overlap of replicas: stable below 1."""
    residual: Array
    """Largest defect of the three equations."""


def paramagnet(
    g: ArrayLike, gamma: ArrayLike, temperature: ArrayLike, *, cold: bool = False
) -> Paramagnet:
    r"""Solve the annealed equations.

    Solutions are followed from high temperatures by Newton's method. For
    :math:`\gamma < 0` and :math:`g < g_c` there can be a second one, of small activity,
    around the origin; it is followed from low temperatures. Where only one of the two
    is found, it is returned. At T = 0 and :math:`g \le g_*` (:math:`g \le g_c` for
    :math:`\gamma < 0`) the solution returned has all weight on x = 0, in closed form:
    for :math:`\gamma < 0` this is the limit of the small one, whatever ``cold`` is.

    Parameters
    ----------
    g
        Gain, > 0.
    gamma
        Symmetry of the couplings, from -1 to 1.
    temperature
        :math:`T \ge 0`. The three are broadcast together.
    cold
        Follow from low temperatures where g is below its critical value.

    Returns
    -------
    Paramagnet
        Arrays of the common shape.

    Raises
    ------
    ValueError
        If an argument is out of range.
    TypeError
        If ``cold`` is not True or False.
    FloatingPointError
        If a solution is not found to a residual of 1e-10; names the point.

    Notes
    -----
    Source: the module's docstring. Whether replicas overlap there, so that the quenched
    average differs, is told by ``stability``.
    """
    _read(g, gamma)
    require_all_non_negative(temperature=temperature)
    require_flag(cold=cold)
    shape, (gains, symmetries, temperatures) = flattened(g, gamma, temperature)
    found = np.empty((len(gains), 6))
    trivial = (temperatures == 0) & _is_trivial(gains, symmetries)
    if trivial.any():
        found[trivial] = _on_the_origin(gains[trivial], symmetries[trivial])
    rest = ~trivial
    if rest.any():
        point = gains[rest], symmetries[rest], temperatures[rest]
        found[rest] = _described(*_solved(*point, cold), *point)
    return Paramagnet(*found.T.reshape(6, *shape))


def _is_trivial(g: Array, gamma: Array) -> NDArray[np.bool_]:
    """Tell where, at T = 0, all weight is on x = 0."""
    with np.errstate(divide="ignore"):
        edge, weight = 1 / (1 + gamma), (1 + gamma) ** -0.5
    return np.asarray(g <= np.where(gamma < 0, edge, weight))


def _on_the_origin(g: Array, gamma: Array) -> Array:
    """Limit T -> 0 of the parameters, where x is a small Gaussian variable.

    Its variance over s, A = q / s, is r^2 below the edge, from
    q = T r^2 / (1 - g^2 r^2), and 1 / g^2 above.
    """
    root = np.sqrt(np.maximum(1 - 4 * g**2 * gamma, 0))
    below = g * (1 + gamma) < 1
    # (1 - root) / (2 g^2 gamma), without its 0 / 0 at gamma = 0.
    r = np.where(below, 2 / (1 + root), 1 / (g**2 * np.maximum(1 + gamma, 1e-300)))
    A = np.where(below, r**2, 1 / g**2)
    kappa = g**2 / 2 * ((1 - g**2 * gamma * r) ** 2 * A - 1)
    zero, none = np.zeros_like(g), np.full_like(g, np.nan)
    stability = _stability(r, 2 * kappa * A / g**2, g, gamma)
    return np.stack([zero, r, none, trivial_weight(g, gamma), stability, zero], axis=1)


def _solved(g: Array, gamma: Array, T: Array, cold: bool) -> tuple[Array, Array]:
    """Unknowns (P, 3) and residuals (P,), from where the caller wants."""
    found, size = np.empty((len(g), 3)), np.full(len(g), np.inf)
    two = (gamma < 0) & (g * (1 + gamma) < 1)
    # Each of two solutions can end at some temperature; then there is the other one.
    for up in (cold, not cold):
        rest = (size > RESIDUAL) & (two | (not up))
        if rest.any():
            found[rest], size[rest] = _followed(g[rest], gamma[rest], T[rest], up)
    worst = int(size.argmax())
    if not size[worst] <= RESIDUAL:
        raise FloatingPointError(
            f"the paramagnet is not found at g = {g[worst]}, gamma = {gamma[worst]}, "
            f"temperature = {T[worst]}: residual {size[worst]:.1e}"
        )
    return found, size


def _followed(g: Array, gamma: Array, T: Array, up: bool) -> tuple[Array, Array]:
    """The same, every pair of g and gamma followed up or down in temperature."""
    pairs, member = np.unique(np.stack([g, gamma], 1), axis=0, return_inverse=True)
    rungs = _ladder(T)[:: -1 if up else 1]
    last = np.full(len(pairs), -np.inf if up else np.inf)
    (np.maximum if up else np.minimum).at(last, member, T)
    gains, symmetries = pairs.T
    v = (_cold_start if up else _hot_start)(gains, symmetries, float(rungs[0]))
    residual = np.zeros(len(pairs))
    found, size = np.empty((len(g), 3)), np.empty(len(g))
    for t in rungs:
        active = (last >= t if up else last <= t) & (residual <= RESIDUAL)
        here = gains[active], symmetries[active], np.full(active.sum(), t)

        def equations(
            v: Array, rows: Rows, here: tuple[Array, ...] = here
        ) -> Equations:
            return _paramagnet(v, *(values[rows] for values in here))

        v[active], residual[active] = _newton(equations, v[active])
        asked = t == T
        found[asked], size[asked] = v[member[asked]], residual[member[asked]]
    return found, size


def _hot_start(g: Array, gamma: Array, T: float) -> Array:
    """Unknowns at a high temperature, where the averages contract."""
    v = np.tile([np.log(0.8), 0.2, 0.0], (len(g), 1))
    for _ in range(40):
        defect = _paramagnet(v, g, gamma, np.full(len(g), T)).defect
        v[:, 0] += np.log1p(defect[:, 0]) / 2
        v[:, 1:] += defect[:, 1:] / 2
    return v


def _cold_start(g: Array, gamma: Array, T: float) -> Array:
    """Unknowns around the origin at a low temperature, below the critical gain."""
    r = 2 / (1 + np.sqrt(1 - 4 * g**2 * gamma))
    kappa = g**2 / 2 * ((1 - g**2 * gamma * r) ** 2 * r**2 - 1)
    return np.stack([np.log(T * r**2 / (1 - g**2 * r**2)), r, kappa], axis=1)


def _ladder(T: Array) -> Array:
    """Temperatures to visit, from hot to cold, with all that are asked for."""
    hottest = max(HOT, T.max())
    count = int(np.ceil(RUNGS_PER_DECADE * np.log10(hottest / T.clip(COLD).min())))
    rungs = hottest * 10 ** (-np.arange(count + 1) / RUNGS_PER_DECADE)
    return np.unique(np.concatenate([T, rungs]))[::-1]


def _described(v: Array, residual: Array, g: Array, gamma: Array, T: Array) -> Array:
    """What is reported of solutions, shape (P, 6)."""
    q, r, kappa = np.exp(v[:, 0]), v[:, 1], v[:, 2]
    s = T + g**2 * q
    logarithm = _law(s, g**2 * gamma * r, kappa, POINTS)[3]
    log_weight = logarithm - kappa * q / s - gamma * (g * r) ** 2 / 2
    stability = _stability(r, 2 * kappa * q / (s * g**2), g, gamma)
    return np.stack([q, r, kappa / s, log_weight, stability, residual], axis=1)


def overlap_matrix(B: Array, d: Array, g: Array, gamma: Array) -> Array:
    r"""Linear map of (Q / A, R, A Qhat) around the paramagnet, shape (P, 3, 3).

    B is the average of :math:`i \hat x \phi`, that is r, and d the product of those of
    :math:`\phi^2`, A, and of :math:`(i \hat x)^2`, that is :math:`2 q \hat q / g^2`.
    """
    k = g**2
    rows = [
        [k * B**2, 2 * k * gamma * B, np.ones_like(g)],
        [k * d * B, k * gamma * (d + B**2), B],
        [k**2 * d**2, 2 * k**2 * gamma * d * B, k * B**2],
    ]
    return np.moveaxis(np.array(rows), -1, 0)


def _stability(B: Array, d: Array, g: Array, gamma: Array) -> Array:
    """Largest eigenvalue of the map of overlaps."""
    largest: Array = np.linalg.eigvals(overlap_matrix(B, d, g, gamma)).real.max(axis=-1)
    return largest


def single_site_law(
    q: float, r: float, qhat: float, g: float, gamma: float, temperature: float
) -> tuple[Array, Array]:
    r"""Law of one neuron in the paramagnet, on a fine grid.

    .. math:: P(x) \propto \exp\Bigl\{ -\frac{(x - g^2 \gamma r\, \phi)^2}{2 s}
        + \hat q\, \phi^2 \Bigr\}, \qquad s = T + g^2 q

    Parameters
    ----------
    q, r, qhat
        Order parameters.
    g, gamma, temperature
        Gain, symmetry and temperature.

    Returns
    -------
    tuple of arrays
        States x and density, each of shape (4801,).

    Raises
    ------
    ValueError
        If s is not > 0, or an argument is out of range.

    Notes
    -----
    Source: the module's docstring.
    """
    require_finite(r=r, qhat=qhat)
    require_non_negative(q=q, g=g, temperature=temperature)
    require_between(-1, 1, gamma=gamma)
    s = temperature + g**2 * q
    require_all_positive(s=s)
    X, _, weights, _ = _law(
        np.array([s]), np.array([g**2 * gamma * r]), np.array([s * qhat]), 4801
    )
    x = X[0] * s**0.5
    return x, weights[0] / (x[1] - x[0])


# --- the exponent at fixed activity -------------------------------------------------


def annealed_exponent(
    q: ArrayLike, g: ArrayLike, gamma: ArrayLike, temperature: ArrayLike = 0.0
) -> Array:
    r"""Exponent of the mean weight of states of one activity.

    .. math:: S(q) = \mathop{\mathrm{extr}}_{m, \hat q, w} \Bigl\{
        \frac{\gamma g^2 m^2}{2 s (s + \gamma g^2 q)} - \hat q q - w m
        + \ln \int \frac{dx}{\sqrt{2 \pi s}}
        e^{-x^2 / 2s + \hat q \phi^2 + w x \phi} \Bigr\}, \qquad s = T + g^2 q

    Its maximum over q is ``log_weight`` of :func:`paramagnet`. At T = 0 it counts fixed
    points, each with :math:`1 / |\det F'|`, and starts from :func:`trivial_weight` if
    :math:`g \ge g_c`.

    Parameters
    ----------
    q
        Activity, > 0 and < 1.
    g
        Gain, > 0.
    gamma
        Symmetry of the couplings, > -1 and <= 1.
    temperature
        :math:`T \ge 0`. The four are broadcast together.

    Returns
    -------
    array
        Exponents per neuron, of the common shape.

    Raises
    ------
    ValueError
        If an argument is out of range.
    FloatingPointError
        If a solution is not found to a residual of 1e-10; names the point.

    Notes
    -----
    Source: derived in the chapter *The edge of chaos by replicas*.
    """
    _read(g, gamma)
    require_all_non_negative(temperature=temperature)
    shape, (activity, gains, symmetries, temperatures) = flattened(
        require_real("q", q), g, gamma, temperature
    )
    if not np.all((activity > 0) & (activity < 1)):
        raise ValueError(f"q must be > 0 and < 1, got {q!r}")
    if not np.all(symmetries > -1):
        raise ValueError(f"gamma must be > -1 and <= 1, got {gamma!r}")
    S, residual = _exponent(activity, gains, symmetries, temperatures)
    worst = int(residual.argmax())
    if not residual[worst] <= RESIDUAL:
        raise FloatingPointError(
            f"the exponent is not found at q = {activity[worst]}, g = {gains[worst]}, "
            f"gamma = {symmetries[worst]}, temperature = {temperatures[worst]}: "
            f"residual {residual[worst]:.1e}"
        )
    return S.reshape(shape)


ACTIVITY_STEPS = 24


def _exponent(q: Array, g: Array, gamma: Array, T: Array) -> tuple[Array, Array]:
    """Exponents and residuals, followed from activities where phi is almost x."""
    first = np.minimum(q, 0.01)
    s = T + g**2 * first
    pull = gamma * g**2 * first / (s + gamma * g**2 * first)
    v = np.stack([pull, (1 - s / first) / 2 - pull], axis=1)
    change = np.zeros_like(v)
    for part in np.linspace(0, 1, ACTIVITY_STEPS):
        odds = (first / (1 - first)) ** (1 - part) * (q / (1 - q)) ** part

        def equations(
            v: Array, rows: Rows, now: Array = odds / (1 + odds)
        ) -> Equations:
            return _at_activity(v, now[rows], g[rows], gamma[rows], T[rows])

        before, (v, residual) = v, _newton(equations, v + change)
        change = v - before if part > 0 else np.zeros_like(v)
    pull, kappa = v.T
    s = T + g**2 * q
    X, psi, weights, logarithm = _law(s, pull, kappa + pull**2 / 2, POINTS)
    mixed = (psi * X * weights).sum(axis=1)
    return logarithm - pull * mixed / 2 - kappa * q / s, residual
