r"""Random recurrent networks: their dynamics, speed, fixed points and exponents.

A network of :math:`N` neurons moves with the velocity

.. math:: \dot x_i = F_i(x) = -x_i + g \sum_j J_{ij} \tanh x_j, \qquad
    E\, J_{ij}^2 = \frac1N, \quad E\, J_{ij} J_{ji} = \frac\gamma N ,

which is no gradient; if :math:`\gamma = 1` it still descends a potential, Hopfield's.
Half of its squared speed, :math:`E(x) = \frac12 |F(x)|^2`, is a potential for every
:math:`\gamma`, with zeros exactly at the fixed points, stable or not. Qiu and Huang
(2025) study its Boltzmann law :math:`e^{-E/T}`; the theory is in
:mod:`fpbook.annealed` and :mod:`fpbook.replicas`. Replicas are networks with the same
couplings: states have the shape (N, R), one per column.

Source: the model of Sompolinsky, Crisanti and Sommers, Phys. Rev. Lett. 61, 259 (1988),
with partial symmetry; derived in the chapter *The edge of chaos by replicas*.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpbook import progress
from fpbook.annealed import paramagnet, single_site_law
from fpbook.validation import (
    LARGEST,
    LARGEST_COUNT,
    require_between,
    require_flag,
    require_generator,
    require_integer,
    require_integer_between,
    require_non_negative,
    require_positive,
    require_real,
    require_snapshots,
    require_times,
)

Array = NDArray[np.float64]
Seed = int | np.random.Generator

# --- the network --------------------------------------------------------------------


def random_couplings(N: int, gamma: float, seed: Seed, diagonal: bool = False) -> Array:
    r"""Gaussian couplings with correlation gamma between the two directions.

    .. math:: J = a\,G + b\,G^T, \qquad a^2 + b^2 = 1, \quad 2ab = \gamma

    with independent :math:`G_{ij}` of variance :math:`1/N`. Source: the elliptic
    ensemble of Sommers et al., Phys. Rev. Lett. 60, 1895 (1988).

    Parameters
    ----------
    N
        Number of neurons, >= 1.
    gamma
        From -1 (antisymmetric) over 0 (independent) to 1 (symmetric).
    seed
        Seed or generator of the random numbers.
    diagonal
        Keep the couplings of neurons to themselves, of variance
        :math:`(1 + \gamma)/N`; otherwise they are 0.

    Returns
    -------
    array
        Couplings, shape (N, N), without the gain g.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    require_integer(1, N=N)
    require_between(-1, 1, gamma=gamma)
    require_flag(diagonal=diagonal)
    G = require_generator(seed).standard_normal((N, N))
    G /= N**0.5
    plus, minus = (1 + gamma) ** 0.5 / 2, (1 - gamma) ** 0.5 / 2
    J: Array = (plus + minus) * G
    J += (plus - minus) * G.T
    if not diagonal:
        np.fill_diagonal(J, 0)
    return J


def _check_network(J: ArrayLike, g: float) -> Array:
    couplings = require_real("J", J)
    N = len(couplings) if couplings.ndim else 0
    if N == 0 or couplings.shape != (N, N) or not np.all(np.abs(couplings) <= LARGEST):
        raise ValueError(
            "J must be finite and square, shape (N, N) with N >= 1, got shape "
            f"{couplings.shape} with {np.sum(~np.isfinite(couplings))} not finite"
        )
    require_non_negative(g=g)
    return couplings


def _check_states(name: str, x: ArrayLike, N: int, *dimensions: int) -> Array:
    """Require finite states of one of the numbers of dimensions, 1 or 2."""
    states = require_real(name, x)
    if (
        states.ndim not in dimensions
        or len(states) != N
        or not np.all(np.abs(states) <= LARGEST)
    ):
        shapes = " or ".join({1: f"({N},)", 2: f"({N}, R)"}[d] for d in dimensions)
        raise ValueError(
            f"{name} must be finite and of shape {shapes}, got shape {states.shape} "
            f"with {np.sum(~np.isfinite(states))} not finite"
        )
    return states


def velocity(x: ArrayLike, J: Array, g: float) -> Array:
    r"""Velocity :math:`F = -x + g J \tanh x`.

    Parameters
    ----------
    x
        States, shape (N,) or (N, R).
    J
        Couplings, shape (N, N).
    g
        Gain, >= 0.

    Returns
    -------
    array
        Velocities in units of the neurons' time constant, the shape of ``x``.

    Raises
    ------
    ValueError
        If shapes do not fit, numbers are not finite, or g < 0.
    """
    J = _check_network(J, g)
    states = _check_states("x", x, len(J), 1, 2)
    return _velocity(states, np.tanh(states), J, g)


def _velocity(x: Array, phi: Array, J: Array, g: float) -> Array:
    F = _product(J, phi)
    F *= g
    F -= x
    return F


# Up to so many columns are multiplied one by one: with couplings larger than the cache
# BLAS takes 1.1 to 1.5 times as long for both columns at once, N from 1000 to 2000.
THIN = 3


def _product(J: Array, x: Array) -> Array:
    """Matrix product, for states of one or two dimensions."""
    product: Array
    if x.ndim == 2 and 1 < x.shape[1] <= THIN:
        product = np.empty_like(x)
        for k, column in enumerate(np.ascontiguousarray(x.T)):
            product[:, k] = J @ column
    else:
        product = J @ x
    return product


def speed_energy(x: ArrayLike, J: Array, g: float) -> Array:
    r"""Half the squared speed, :math:`E = \frac12 \sum_i F_i^2`, of every replica.

    Parameters
    ----------
    x
        States, shape (N,) or (N, R).
    J
        Couplings, shape (N, N).
    g
        Gain, >= 0.

    Returns
    -------
    array
        Energies, shape () or (R,); of order N.

    Raises
    ------
    ValueError
        As :func:`velocity`.
    """
    energies: Array = (velocity(x, J, g) ** 2).sum(axis=0) / 2
    return energies


def speed_gradient(x: ArrayLike, J: Array, g: float) -> Array:
    r"""Gradient of the speed energy, by two products with the couplings.

    .. math:: \nabla E = F'^T F = -F + \phi'(x) \circ (g J^T F), \qquad
        \phi = \tanh

    Parameters
    ----------
    x
        States, shape (N,) or (N, R).
    J
        Couplings, shape (N, N).
    g
        Gain, >= 0.

    Returns
    -------
    array
        Gradients, the shape of ``x``.

    Raises
    ------
    ValueError
        As :func:`velocity`.
    """
    J = _check_network(J, g)
    return _speed_gradient(_check_states("x", x, len(J), 1, 2), J, g)


def _speed_gradient(x: Array, J: Array, g: float) -> Array:
    phi = np.tanh(x)
    F = _velocity(x, phi, J, g)
    back = _product(J.T, F)
    np.multiply(phi, phi, out=phi)
    np.subtract(1, phi, out=phi)
    back *= phi
    back *= g
    back -= F
    return back


# --- the dynamics -------------------------------------------------------------------


def trajectory(
    J: Array, g: float, x0: ArrayLike, times: ArrayLike, *, dt: float = 0.1
) -> Array:
    r"""Solve :math:`\dot x = F(x)` by the Runge-Kutta method of order 4.

    Every interval between times is divided into equal steps of at most ``dt``, so that
    the steps land on the times that are asked for. Where the network is chaotic, only
    averages over a long trajectory are reproducible.

    Parameters
    ----------
    J
        Couplings, shape (N, N).
    g
        Gain, >= 0.
    x0
        States at time 0, shape (N, R).
    times
        When to keep the states, >= 0 and increasing, in units of the neurons' time
        constant, shape (n,).
    dt
        Longest time step, > 0. Steps beyond about :math:`2.8 / (1 + 2g)` may be
        unstable.

    Returns
    -------
    array
        States, shape (n, N, R).

    Raises
    ------
    ValueError
        If an argument is out of range or shapes do not fit.
    FloatingPointError
        If states are not finite; names the time.

    Notes
    -----
    Source: the classical method of Kutta, Z. Math. Phys. 46, 435 (1901).
    """
    J = _check_network(J, g)
    require_positive(dt=dt)
    asked = require_times(times)
    x = _check_states("x0", x0, len(J), 2)
    _require_few_steps(asked[-1] / dt, "times")

    def slope(x: Array) -> Array:
        return _velocity(x, np.tanh(x), J, g)

    states = np.empty((len(asked), *x.shape))
    now = 0.0
    with (
        np.errstate(over="ignore", invalid="ignore"),
        progress.bar(asked[-1], "network dynamics") as bar,
    ):
        for k, time in enumerate(asked):
            # An interval of dt up to rounding is one step.
            steps = int(np.ceil((time - now) / dt * (1 - 1e-9)))
            for _ in range(steps):
                x = _rk4(slope, x, (time - now) / steps)
                bar.update((time - now) / steps)
            if not np.all(np.isfinite(x)):
                raise FloatingPointError(
                    f"states are not finite at time {time}; a dt shorter than {dt} "
                    "avoids it"
                )
            states[k] = x
            now = time
    return states


def _require_few_steps(steps: float, names: str) -> None:
    if steps > LARGEST_COUNT:
        raise ValueError(
            f"{names} must be at most {LARGEST_COUNT:g} steps dt, got {steps:.3g}"
        )


def _rk4(slope: Callable[[Array], Array], x: Array, dt: float) -> Array:
    one = slope(x)
    two = slope(x + dt / 2 * one)
    three = slope(x + dt / 2 * two)
    four = slope(x + dt * three)
    moved: Array = x + dt / 6 * (one + 2 * (two + three) + four)
    return moved


# --- Langevin dynamics of the speed energy ------------------------------------------


def langevin(
    J: Array,
    g: float,
    temperature: float,
    x0: ArrayLike,
    steps: int,
    seed: Seed,
    *,
    dt: float = 0.25,
    friction: float = 0.5,
    snapshots: Sequence[int] | None = None,
) -> Array:
    r"""Sample :math:`e^{-E/T}` by underdamped Langevin dynamics (BAOAB).

    .. math:: dx = p\, dt, \qquad
        dp = -\nabla E\, dt - \zeta p\, dt + \sqrt{2 \zeta T}\, dW

    Half a kick, half a drift, the exact step of friction and noise, half a drift, half
    a kick: positions in a quadratic well are sampled without an error of the step, and
    stably if :math:`\Delta t\, \omega < 2`. The fastest frequency :math:`\omega` is the
    largest singular value of :math:`F'`, at most about :math:`1 + 2g` at x = 0. Steps
    that are unstable there are refused: since tanh saturates, they would not diverge
    but sample another law. Source: Leimkuhler and Matthews, Appl. Math. Res. Express
    2013, 34.

    Parameters
    ----------
    J
        Couplings, shape (N, N).
    g
        Gain, >= 0.
    temperature
        :math:`T \ge 0`, in units of the energy; 0 descends with friction.
    x0
        Starts, shape (N, R). Momenta start from their equilibrium law.
    steps
        Number of steps, >= 0.
    seed
        Seed or generator of the random numbers.
    dt
        Time step, from 0 to :math:`2 / \omega` at x = 0.
    friction
        :math:`\zeta > 0`, in 1 / time.
    snapshots
        Step counts at which to keep the states, increasing, from 0 to ``steps``; the
        run ends with the last. None for ``steps`` only.

    Returns
    -------
    array
        States, shape (len(snapshots), N, R).

    Raises
    ------
    ValueError
        If an argument is out of range, shapes do not fit, or dt is unstable.
    FloatingPointError
        If states are not finite; names the step.
    """
    J = _check_network(J, g)
    require_non_negative(temperature=temperature)
    require_positive(dt=dt, friction=friction)
    require_integer(0, steps=steps)
    kept = require_snapshots(snapshots, steps)
    x = _check_states("x0", x0, len(J), 2).copy()
    rng = require_generator(seed)
    fastest = _fastest(J, g)
    if dt * fastest > 2:
        raise ValueError(
            f"dt must be at most 2 / omega = {2 / fastest:.3g} at x = 0, got {dt}"
        )
    p = rng.standard_normal(x.shape) * temperature**0.5
    kick = np.empty_like(x)
    damping = np.exp(-friction * dt)
    noise = (temperature * (1 - damping**2)) ** 0.5
    states = np.empty((len(kept), *x.shape))
    stored = 0
    with (
        np.errstate(over="ignore", invalid="ignore"),
        progress.bar(kept[-1], "Langevin dynamics") as bar,
    ):
        gradient = _speed_gradient(x, J, g)
        for step in range(kept[-1] + 1):
            if step == kept[stored]:
                if not np.all(np.isfinite(x)):
                    raise FloatingPointError(
                        f"states are not finite at step {step}: x0 or the "
                        f"temperature {temperature} is too large"
                    )
                states[stored] = x
                stored += 1
            if step == kept[-1]:
                break
            p -= dt / 2 * gradient
            x += dt / 2 * p
            p *= damping
            rng.standard_normal(out=kick)
            kick *= noise
            p += kick
            x += dt / 2 * p
            gradient = _speed_gradient(x, J, g)
            p -= dt / 2 * gradient
            bar.update(1)
    return states


def _fastest(J: Array, g: float) -> float:
    """Largest singular value of F' at 0, from below, to about a percent.

    By the power method: after k iterations on a spectrum with a soft edge, the error is
    about 0.4 / k.
    """
    vector = np.random.default_rng(0).standard_normal(len(J))
    for _ in range(50):
        # F' = 0 is allowed, and has no direction.
        vector /= max(np.linalg.norm(vector), np.finfo(float).tiny)
        image = g * (J @ vector) - vector
        vector = g * (J.T @ image) - image
    return float(np.linalg.norm(image))


# --- Lyapunov exponents -------------------------------------------------------------


def lyapunov_spectrum(
    J: Array,
    g: float,
    k: int,
    time: float,
    *,
    dt: float = 0.1,
    warm_up: float = 50.0,
    between: int = 5,
    x0: ArrayLike | None = None,
    seed: Seed = 0,
) -> Array:
    r"""Largest Lyapunov exponents of the dynamics :math:`\dot x = F(x)`.

    .. math:: \dot V = F'(x)\, V, \qquad
        F' = -1 + g J\, \mathrm{diag}(1 - \tanh^2 x)

    with k tangent vectors, reorthogonalised by QR; states and tangents move together by
    the Runge-Kutta method of order 4. The mean of all N exponents is the mean of the
    trace of :math:`F'` over N: -1, up to the error of the step, if :math:`J_{ii} = 0`.
    Both times are rounded to whole blocks of ``between`` steps, at least one. Source:
    Benettin et al., Meccanica 15, 9 (1980).

    Parameters
    ----------
    J
        Couplings, shape (N, N).
    g
        Gain, >= 0.
    k
        Number of exponents, from 1 to N.
    time
        Time over which growth is averaged, > 0, in units of the neurons' time constant.
    dt
        Time step, > 0.
    warm_up
        Time before, >= 0, in which states and tangents find their places; 0 is 0.
    between
        Steps from one QR to the next, >= 1.
    x0
        Start, shape (N,). None for normal numbers.
    seed
        Seed or generator, for the start and the tangents.

    Returns
    -------
    array
        Exponents in 1 / time, the largest first, shape (k,).

    Raises
    ------
    ValueError
        If an argument is out of range or shapes do not fit.
    FloatingPointError
        If states or tangents are not finite; names the time.
    """
    J = _check_network(J, g)
    N = len(J)
    require_integer_between(1, N, k=k)
    require_integer(1, between=between)
    require_positive(time=time, dt=dt)
    require_non_negative(warm_up=warm_up)
    rng = require_generator(seed)
    start = rng.standard_normal(N) if x0 is None else _check_states("x0", x0, N, 1)
    state = np.column_stack([start, np.linalg.qr(rng.standard_normal((N, k)))[0]])
    length = between * dt
    _require_few_steps((warm_up + time) / dt, "time and warm_up")
    before = max(1, round(warm_up / length)) if warm_up > 0 else 0
    blocks = max(1, round(time / length))
    growth = np.zeros(k)

    def slope(state: Array) -> Array:
        return _with_tangents(state, J, g)

    with (
        np.errstate(over="ignore", invalid="ignore"),
        progress.bar(before + blocks, "Lyapunov exponents") as bar,
    ):
        for block in range(before + blocks):
            for _ in range(between):
                state = _rk4(slope, state, dt)
            if not np.all(np.isfinite(state)):
                raise FloatingPointError(
                    "states or tangents are not finite at time "
                    f"{(block + 1) * length:g}; a dt shorter than {dt}, or fewer steps "
                    f"between than {between}, avoid it"
                )
            state[:, 1:], R = np.linalg.qr(state[:, 1:])
            if block >= before:
                growth += np.log(np.abs(np.diagonal(R)))
            bar.update(1)
    return np.sort(growth / (blocks * length))[::-1]


def _with_tangents(state: Array, J: Array, g: float) -> Array:
    """Velocity of the first column, tangent map of the others, in one product."""
    phi = np.tanh(state[:, 0])
    sent = np.empty_like(state)
    sent[:, 0] = phi
    np.multiply((1 - phi**2)[:, None], state[:, 1:], out=sent[:, 1:])
    return _velocity(state, sent, J, g)


# --- fixed points -------------------------------------------------------------------


class FixedPoints(NamedTuple):
    """What :func:`fixed_points` found, by increasing activity."""

    points: Array
    """States, shape (K, N)."""
    log_abs_det: Array
    r"""Logarithm of :math:`|\det F'|`, shape (K,); -inf where F' is singular."""
    unstable: NDArray[np.intp]
    """Number of unstable directions, shape (K,)."""
    activity: Array
    r"""Mean of :math:`\tanh^2 x` over the neurons, shape (K,)."""
    missed: int
    """Number of starts that did not arrive at a zero."""


def fixed_points(
    J: Array,
    g: float,
    starts: ArrayLike,
    *,
    iterations: int = 200,
    tolerance: float = 1e-11,
    distinct: float = 1e-5,
) -> FixedPoints:
    r"""Zeros of the velocity, by the method of Levenberg and Marquardt.

    .. math:: (F'^T F' + \mu)\, \delta = -F'^T F

    from many starts at once; :math:`\mu` falls after a step that lowers :math:`|F|` and
    rises after one that does not. Zeros found twice count once; with :math:`x` counts
    :math:`-x`, since F is odd. There is no guarantee that all are found: starts can
    miss, since :math:`|F|` has other minima, and small basins can be missed by all. At
    a bifurcation, where :math:`F'` is singular, one zero can be found as several, since
    :math:`|F|` is then below ``tolerance`` farther away than ``distinct``.

    Parameters
    ----------
    J
        Couplings, shape (N, N).
    g
        Gain, >= 0.
    starts
        Where to start, shape (N, M). The point 0 is always among the results.
    iterations
        Largest number of steps, >= 1; starts that have not arrived then have missed.
    tolerance
        Largest :math:`|F|` of a zero, > 0.
    distinct
        Distance below which two zeros are one, > 0.

    Returns
    -------
    FixedPoints
        Points, logarithms of determinants, numbers of unstable directions, activities,
        and the number of starts that missed.

    Raises
    ------
    ValueError
        If an argument is out of range or shapes do not fit.
    """
    J = _check_network(J, g)
    N = len(J)
    require_integer(1, iterations=iterations)
    require_positive(tolerance=tolerance, distinct=distinct)
    x = _check_states("starts", starts, N, 2).T
    blocks = np.array_split(x, 1 + len(x) * N**2 // BLOCK)
    arrived = np.concatenate(
        [_levenberg_marquardt(b, J, g, iterations, tolerance) for b in blocks]
    )
    points = _distinct(arrived, distinct)
    activity = (np.tanh(points) ** 2).mean(axis=1)
    order = np.argsort(activity, kind="stable")
    points = points[order]
    log_abs_det, unstable = np.empty(len(points)), np.empty(len(points), dtype=np.intp)
    for k, point in enumerate(points):
        slopes = _jacobians(point[None], J, g)[0]
        log_abs_det[k] = np.linalg.slogdet(slopes)[1]
        unstable[k] = (np.linalg.eigvals(slopes).real > 0).sum()
    return FixedPoints(
        points, log_abs_det, unstable, activity[order], len(x) - len(arrived)
    )


BLOCK = 2**22
"""Entries of the Jacobians that are in memory at a time: 32 MB."""
STUCK = 1e-7
"""Slope of the speed below which a start is given up: it is in another minimum."""


def _levenberg_marquardt(
    x: Array, J: Array, g: float, iterations: int, tolerance: float
) -> Array:
    """Those of the points (M, N) that arrive at a zero, moved there."""
    identity = np.eye(len(J))
    damping = np.full(len(x), 0.1)
    arrived = []
    for iteration in range(iterations + 1):
        F = _velocity(x.T, np.tanh(x.T), J, g).T
        speed = np.linalg.norm(F, axis=1)
        there = speed <= tolerance
        arrived.append(x[there])
        slopes = _jacobians(x, J, g)
        turned = np.swapaxes(slopes, 1, 2)
        gradient = turned @ F[..., None]
        on = np.linalg.norm(gradient[..., 0], axis=1) > STUCK * speed
        on &= ~there
        if iteration == iterations or not on.any():
            break
        x, speed, damping, slopes, turned, gradient = (
            part[on] for part in (x, speed, damping, slopes, turned, gradient)
        )
        matrix = turned @ slopes + damping[:, None, None] * identity
        step = np.linalg.solve(matrix, -gradient)[..., 0]
        new = x + step
        new_speed = np.linalg.norm(_velocity(new.T, np.tanh(new.T), J, g), axis=0)
        better = new_speed < speed
        x = np.where(better[:, None], new, x)
        damping = np.where(better, damping / 5, damping * 4).clip(1e-12, 1e8)
    return np.concatenate(arrived)


def _jacobians(x: Array, J: Array, g: float) -> Array:
    """Matrices F' at points (M, N), shape (M, N, N)."""
    slopes: Array = g * J * (1 - np.tanh(x) ** 2)[:, None, :]
    slopes -= np.eye(len(J))
    return slopes


def _distinct(arrived: Array, distance: float) -> Array:
    """0, and pairs of points (M, N) and their opposites, each once, shape (K, N)."""
    found = [np.zeros(arrived.shape[1])]
    rest = arrived[np.linalg.norm(arrived, axis=1) > distance]
    while len(rest) > 0:
        # Of a pair, the point whose largest component is positive comes first.
        point = rest[0] * np.sign(rest[0][np.abs(rest[0]).argmax()])
        found += [point, -point]
        rest = rest[1:]
        away = np.linalg.norm(rest - point, axis=1) > distance
        away &= np.linalg.norm(rest + point, axis=1) > distance
        rest = rest[away]
    return np.array(found)


# --- quiet planting -----------------------------------------------------------------


class Planted(NamedTuple):
    """Couplings and a state that is in equilibrium with them."""

    J: Array
    r"""Couplings, shape (N, N), the diagonal included, of variance
    :math:`(1 + \gamma)/N`."""
    x: Array
    """State, shape (N,)."""


def plant(N: int, g: float, gamma: float, temperature: float, seed: Seed) -> Planted:
    r"""Draw couplings and an equilibrium state of theirs together.

    First the state, from the single-site law of the theory; then the couplings, given
    the state,

    .. math:: J = J_0 + \frac1N \bigl(u \phi^T + \gamma\, \phi u^T\bigr), \qquad
        u = g\, (g^2 C + T)^{-1} (x - g J_0 \phi - \sqrt T \xi), \qquad
        C = q + \frac\gamma N\, \phi \phi^T

    with fresh :math:`J_0` and :math:`\xi`. Where the annealed and the quenched average
    agree (the overlap Q is 0), such pairs are typical ones, and a Langevin dynamics
    that starts from x is in equilibrium at once. Source: quiet planting, Krzakala and
    Zdeborova, Phys. Rev. Lett. 102, 238701 (2009); derived in the chapter *The edge of
    chaos by replicas*.

    Parameters
    ----------
    N
        Number of neurons, >= 1.
    g
        Gain, > 0.
    gamma
        Symmetry of the couplings, from -1 to 1.
    temperature
        :math:`T > 0`.
    seed
        Seed or generator of the random numbers.

    Returns
    -------
    Planted
        Couplings and state.

    Raises
    ------
    ValueError
        If an argument is out of range, or if the paramagnet is unstable there (Q > 0):
        planted couplings would not be typical.
    FloatingPointError
        If the order parameters of the paramagnet are not found.
    """
    require_integer(1, N=N)
    require_positive(g=g, temperature=temperature)
    require_between(-1, 1, gamma=gamma)
    rng = require_generator(seed)
    theory = paramagnet(g, gamma, temperature)
    if theory.stability > 1:
        raise ValueError(
            "g, gamma, temperature must be where the overlap Q is 0, got "
            f"{g}, {gamma}, {temperature}: planted couplings would not be typical"
        )
    q, r, qhat = (float(number) for number in theory[:3])
    axis, density = single_site_law(q, r, qhat, g, gamma, temperature)
    level = np.cumsum((density[1:] + density[:-1]) / 2)
    level = np.concatenate([[0.0], level]) / level[-1]
    x = np.interp(rng.random(N), level, axis)
    phi = np.tanh(x)
    J0 = random_couplings(N, gamma, rng, diagonal=True)
    missing = x - g * (J0 @ phi) - temperature**0.5 * rng.standard_normal(N)
    # (A + c phi phi^T)^{-1} by Sherman and Morrison, with a number A.
    size = phi @ phi / N
    A, c = g**2 * size + temperature, g**2 * gamma / N
    u = g * (missing - c * phi * (phi @ missing) / (A + c * N * size)) / A
    return Planted(J0 + (np.outer(u, phi) + gamma * np.outer(phi, u)) / N, x)
