r"""Replica theory of the speed energy of random networks.

The free energy of the Boltzmann law :math:`e^{-E/T}` of the speed energy
(:mod:`fpbook.random_networks`), averaged over the couplings, has a replica-symmetric
saddle point: a law of one neuron in two Gaussian fields u, v,

.. math:: P(x \mid u, v) \propto \exp\Bigl\{ -\frac{y^2}{2a} + \frac{g \sqrt Q}{a} v y
    + \Bigl[ \frac{c}{g \sqrt Q} v + \sqrt{\hat Q - \frac{c^2}{g^2 Q}}\, u \Bigr] \phi
    + \bigl(\hat q - \tfrac12 \hat Q\bigr) \phi^2 \Bigr\}

with :math:`\phi = \tanh x`, :math:`y = x - \Gamma \phi`, :math:`a = T + g^2 (q - Q)`,
:math:`\Gamma = g^2 \gamma (r - R)` and :math:`c = g^2 \gamma R`. Here q is the
activity, Q the overlap of two replicas, r and R the responses of :math:`\phi` to a
field in F of the same and of the other replica. Where Q = 0 this is the paramagnet of
:mod:`fpbook.annealed`, which is the solution wherever it is stable.

Source: the model and its theory are of Qiu and Huang, Commun. Theor. Phys. 77, 035601
(2025); the equations are derived in the chapter *The edge of chaos by replicas*.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpbook.annealed import (
    HOT,
    RESIDUAL,
    Paramagnet,
    annealed_exponent,
    critical_gains,
    flattened,
    overlap_matrix,
    paramagnet,
    single_site_law,
    trivial_weight,
)
from fpbook.validation import require_broadcast, require_real

__all__ = [
    "OrderParameters",
    "annealed_exponent",
    "critical_gains",
    "order_parameters",
    "paramagnet",
    "single_site_law",
    "trivial_weight",
]

Array = NDArray[np.float64]
Numbers = NDArray[Any]

SIZES = [(20, 8), (48, 12), (96, 16), (192, 24), (384, 32)]
"""Nodes of the two fields, from coarse to fine."""
QUADRATURE = 1e-6
"""Largest relative change of the averages that finer nodes may make."""
WIDTH = 6.5
"""Standard deviations of the fields that are summed."""
MOST = 1500
"""Intervals of x > 0 beyond which a guess is given up."""

COLDEST = 1e-5
"""Lowest temperature, above 0, of solutions with an overlap."""
STEP = 0.6
SHORTEST = 0.004
"""Longest and shortest step along a path in (g, ln T)."""
NEWTON_STEPS = 8
CONVERGED = 1e-13


class OrderParameters(NamedTuple):
    """Order parameters, each of the shape of the arguments broadcast together."""

    q: Array
    r"""Activity :math:`\langle \phi^2 \rangle`."""
    Q: Array
    """Overlap of two replicas."""
    r: Array
    """Response."""
    R: Array
    """Response between two replicas."""
    qhat: Array
    """Conjugate of q; nan where q = 0."""
    Qhat: Array
    """Conjugate of Q."""
    energy: Array
    r"""Energy per neuron, :math:`\frac T2 + T^2 \hat q / g^2`."""
    log_weight: Array
    r""":math:`\frac1N E \ln [Z / (2 \pi T)^{N/2}]`; as T goes to 0, the same of
    :math:`\sum_* 1 / |\det F'(x_*)|`."""
    stability: Array
    """Largest eigenvalue of the paramagnet against Q: Q is 0 where it is below 1."""
    branch: NDArray[np.str_]
    """``"paramagnet"``, ``"replica symmetric"`` (Q > 0), or ``"trivial"``: all weight
    on x = 0, at T = 0 only."""
    residual: Array
    """Largest relative distance of the parameters from their own averages."""


def order_parameters(
    g: ArrayLike, gamma: ArrayLike, temperature: ArrayLike
) -> OrderParameters:
    r"""Solve the replica-symmetric saddle point.

    Where the paramagnet is stable against Q it is the solution. Where it is not, a
    solution with Q > 0 is followed from the temperature at which it branches off, and
    from one point to the next.

    Parameters
    ----------
    g
        Gain, > 0.
    gamma
        Symmetry of the couplings, from -1 to 1.
    temperature
        :math:`T \ge 0`. The three are broadcast together.

    Returns
    -------
    OrderParameters
        Arrays of the common shape.

    Raises
    ------
    ValueError
        If an argument is out of range; if replicas overlap at a temperature below 1e-5,
        where no solution is known (T = 0, gamma < 0 and g above its critical value
        among them).
    FloatingPointError
        If a solution is not found to a residual of 1e-10, or not resolved by the finest
        nodes to 1e-6; names the point.

    Notes
    -----
    Source: the module's docstring; the limit T = 0 is derived in the chapter *The edge
    of chaos by replicas*.
    """
    given = {"g": g, "gamma": gamma, "temperature": temperature}
    for name, values in given.items():
        require_real(name, values)
    require_broadcast(**given)
    shape, (gains, symmetries, T) = flattened(g, gamma, temperature)
    plain = _plain(gains, symmetries, T)
    none = np.zeros_like(gains)
    found = np.stack(
        [plain.q, none, plain.r, none, plain.qhat, none, plain.log_weight], axis=1
    )
    residual = plain.residual.copy()
    branch = np.where(plain.q > 0, "paramagnet", "trivial").astype("<U17")
    overlap = (plain.stability > 1 + MARGINAL) & (plain.q > 0)
    if overlap.any():
        _refuse_cold(gains[overlap], symmetries[overlap], T[overlap])
        found[overlap], residual[overlap] = _overlapping(
            gains[overlap], symmetries[overlap], T[overlap]
        )
        branch[overlap] = "replica symmetric"
    q, Q, r, R, qhat, Qhat, log_weight = found.T
    energy = T / 2 + np.where(q > 0, T**2 * np.nan_to_num(qhat) / gains**2, 0)
    return OrderParameters(
        q=q.reshape(shape),
        Q=Q.reshape(shape),
        r=r.reshape(shape),
        R=R.reshape(shape),
        qhat=qhat.reshape(shape),
        Qhat=Qhat.reshape(shape),
        energy=energy.reshape(shape),
        log_weight=log_weight.reshape(shape),
        stability=plain.stability.reshape(shape),
        branch=branch.reshape(shape),
        residual=residual.reshape(shape),
    )


def _plain(g: Array, gamma: Array, T: Array) -> Paramagnet:
    """The paramagnet, around the origin where that of large activity is unstable."""
    hot = paramagnet(g, gamma, T)
    unstable = (hot.stability > 1 + MARGINAL) & (T > 0)
    if not unstable.any():
        return hot
    cold = paramagnet(g[unstable], gamma[unstable], T[unstable], cold=True)
    values = np.stack(hot)
    values[:, unstable] = np.stack(cold)
    return Paramagnet(*values)


MARGINAL = 1e-9
"""Distance of the eigenvalue from 1 that rounding can make."""


def _refuse_cold(g: Array, gamma: Array, T: Array) -> None:
    if T.min() < COLDEST:
        k = int(T.argmin())
        raise ValueError(
            f"temperature must be >= {COLDEST} where replicas overlap, got {T[k]} at "
            f"g = {g[k]}, gamma = {gamma[k]}"
        )


# --- the law of one neuron in two fields --------------------------------------------
#
# Its exponent is linear in five features of x, with coefficients that are linear in
# (1, u, v): six numbers k decide about six moments m. Both maps around it, from the
# unknowns to k and from m back, are algebra; its derivatives are taken by a complex
# step, which is exact to rounding.


def _parameters(z: Numbers, g: float, gamma: float) -> Numbers:
    r"""(q, Q, r, R, qhat, Qhat) from unknowns without constraints.

    These keep 0 < Q < q and a real root in the law.
    """
    q = np.exp(z[0])
    Q = q / (1 + np.exp(-z[1]))
    Qhat = (g * gamma * z[3]) ** 2 / Q + np.exp(z[5])
    return np.stack([q, Q, z[2], z[3], z[4], Qhat])


def _unknowns(p: Array, g: float, gamma: float) -> Array:
    q, Q, r, R, qhat, Qhat = p
    rest = Qhat - (g * gamma * R) ** 2 / Q
    return np.array([np.log(q), np.log(Q / (q - Q)), r, R, qhat, np.log(rest)])


def _coefficients(p: Numbers, g: float, gamma: float, T: float) -> Numbers:
    r"""Of :math:`x^2, x \phi, \phi^2, v x, u \phi, v \phi` in the exponent."""
    q, Q, r, R, qhat, Qhat = p
    k = g**2 * gamma
    a, pull, spread = T + g**2 * (q - Q), k * (r - R), g * np.sqrt(Q)
    mixed = k * R / spread
    return np.stack(
        [
            -1 / (2 * a),
            pull / a,
            qhat - Qhat / 2 - pull**2 / (2 * a),
            spread / a,
            np.sqrt(Qhat - mixed**2),
            mixed - pull * spread / a,
        ]
    )


def _closed(p: Numbers, m: Numbers, g: float, gamma: float, T: float) -> Numbers:
    r"""Right sides of the six equations, from parameters and moments.

    The moments are of :math:`x^2, x \phi, \phi^2` and of the products of means
    :math:`\langle x \rangle^2, \langle x \rangle \langle \phi \rangle,
    \langle \phi \rangle^2`.
    """
    q, Q, r, R = p[:4]
    k = g**2 * gamma
    a, pull, c = T + g**2 * (q - Q), k * (r - R), k * R
    same = m[1] - pull * m[2]
    other = m[4] - pull * m[5]
    less = 2 * c * (same - other)
    within = m[0] - 2 * pull * m[1] + pull**2 * m[2] - less
    across = m[3] - 2 * pull * m[4] + pull**2 * m[5] - less
    field = g**2 * Q / a**2
    common = c / a * (q - Q) + field * (same - other)
    mean = field * (1 - 2 * (within - across) / a)
    return np.stack(
        [
            m[2],
            m[5],
            same / a - common,
            other / a - common,
            g**2 / 2 * (within / a**2 - 1 / a + mean),
            g**2 * (across / a**2 + mean),
        ]
    )


def _complex_step(f: Callable[[Numbers], Numbers], z: Array) -> tuple[Array, Array]:
    """Values and derivatives of an algebraic function."""
    tiny = 1e-30
    values = f(z[:, None] + 1j * tiny * np.eye(len(z)))
    return values[:, 0].real, values.imag / tiny


class Nodes(NamedTuple):
    """Where laws are summed: fields u, v with weights, and states x."""

    u: Array
    v: Array
    weights: Array
    x: Array


@cache
def _hermite(size: int) -> tuple[Array, Array]:
    nodes, weights = np.polynomial.hermite_e.hermegauss(size)
    return nodes, weights


def _nodes(p: Array, g: float, gamma: float, T: float, size: int) -> Nodes:
    """Fields turned so that the first one tells x from -x, where a cold law is steep.

    The first is summed by trapezoids over its positive half (x -> -x is a symmetry),
    the second by Gauss and Hermite.
    """
    many, few = SIZES[size]
    k = _coefficients(p, g, gamma, T)
    typical = (T + g**2 * p[0]) ** 0.5
    phi = np.tanh(typical)
    direction = np.array([k[4] * phi, k[3] * typical + k[5] * phi])
    along, turned = direction / np.linalg.norm(direction)
    first = (np.arange(many) + 0.5) * WIDTH / many
    second, by_second = _hermite(few)
    one, two = (part.ravel() for part in np.meshgrid(first, second, indexing="ij"))
    weights = np.outer(np.exp(-(first**2) / 2), by_second).ravel()
    reach, intervals = _reach(p, g, gamma, T, size)
    return Nodes(
        along * one - turned * two,
        turned * one + along * two,
        weights / weights.sum(),
        np.linspace(-reach, reach, 2 * int(np.ceil(intervals)) + 1),
    )


def _reach(
    p: Array, g: float, gamma: float, T: float, size: int
) -> tuple[float, float]:
    """Largest state that is summed, and how many intervals it takes to get there."""
    q, Q, r, R = p[:4]
    s, a = T + g**2 * q, T + g**2 * (q - Q)
    pull = abs(g**2 * gamma * (r - R))
    reach = 8.5 * s**0.5 + 1.2 * pull
    # Less than the width of the law, and than the distance of the poles of tanh.
    spacing = min(0.3, 0.6 * a**0.5 / (1 + pull)) / (1 + 0.25 * size)
    return float(reach), float(reach / spacing)


PAIRS = np.triu_indices(5)


def _moments(k: Array, nodes: Nodes) -> tuple[Array, Array, Array]:
    """Six moments, their derivatives by six coefficients, logarithms of integrals."""
    u, v, weights, x = nodes
    phi = np.tanh(x)
    features = np.stack([x**2, x * phi, phi**2, x, phi])
    exponent = np.stack(
        [*np.outer(k[:3], np.ones_like(u)), k[3] * v, k[4] * u + k[5] * v], axis=1
    )
    law = exponent @ features
    highest = law.max(axis=1, keepdims=True)
    law -= highest
    np.exp(law, out=law)
    products = features[PAIRS[0]] * features[PAIRS[1]]
    sums = law @ np.concatenate([features, products, np.ones((1, len(x)))]).T
    total = sums[:, -1].copy()
    sums /= total[:, None]
    mean = sums[:, :5]
    spread = np.empty((len(u), 5, 5))
    spread[:, PAIRS[0], PAIRS[1]] = spread[:, PAIRS[1], PAIRS[0]] = sums[:, 5:-1]
    spread -= mean[:, :, None] * mean[:, None, :]
    by_k = spread[:, :, [0, 1, 2, 3, 4, 4]]
    by_k[:, :, 3] *= v[:, None]
    by_k[:, :, 4] *= u[:, None]
    by_k[:, :, 5] *= v[:, None]
    one, two = (weights * mean[:, 3]), (weights * mean[:, 4])
    moments = np.concatenate(
        [weights @ mean[:, :3], [one @ mean[:, 3], one @ mean[:, 4], two @ mean[:, 4]]]
    )
    slope = np.concatenate(
        [
            np.tensordot(weights, by_k[:, :3], 1),
            [
                2 * one @ by_k[:, 3],
                one @ by_k[:, 4] + two @ by_k[:, 3],
                2 * two @ by_k[:, 4],
            ],
        ]
    )
    return moments, slope, highest[:, 0] + np.log(total * (x[1] - x[0]))


def _defect(
    z: Array, g: float, gamma: float, T: float, nodes: Nodes
) -> tuple[Array, Array]:
    """Relative distance of the parameters from their averages; derivatives by z."""
    p, p_slope = _complex_step(lambda z: _parameters(z, g, gamma), z)
    k, k_slope = _complex_step(lambda p: _coefficients(p, g, gamma, T), p)
    m, m_slope, _ = _moments(k, nodes)
    new, new_slope = _complex_step(
        lambda pm: _closed(pm[:6], pm[6:], g, gamma, T), np.concatenate([p, m])
    )
    slope = (new_slope[:, :6] + new_slope[:, 6:] @ m_slope @ k_slope) @ p_slope
    scale = np.array([p[0], p[1], 1, 1, max(1, abs(p[4])), p[5]])
    return (new - p) / scale, (slope - p_slope) / scale[:, None]


# --- finding solutions --------------------------------------------------------------


class Solution(NamedTuple):
    """Unknowns at a point, on nodes of some size, and their residual."""

    g: float
    T: float
    z: Array
    residual: float


def _solved(
    z: Array, g: float, gamma: float, T: float, size: int = 0
) -> Solution | None:
    """Solve on one set of nodes; None if Newton's method does not arrive."""
    with np.errstate(all="ignore"):
        p = _parameters(z, g, gamma)
        if not _reach(p, g, gamma, T, size)[1] < MOST:
            return None
        z, residual = _newton(z, g, gamma, T, _nodes(p, g, gamma, T, size))
    # Solutions with Q = 0 or Q = q lie at infinity in the second unknown.
    if not residual < RESIDUAL or abs(z[1]) > 12:
        return None
    return Solution(g, T, z, residual)


def _newton(
    z: Array, g: float, gamma: float, T: float, nodes: Nodes
) -> tuple[Array, float]:
    """Newton's steps, of limited length; they may pass over a hill."""
    for _ in range(NEWTON_STEPS):
        defect, slope = _defect(z, g, gamma, T, nodes)
        residual = float(np.abs(defect).max())
        if not CONVERGED < residual < 1e6:
            break
        step = np.linalg.solve(slope, -defect)
        z = z + step / max(1, np.abs(step[[0, 1, 5]]).max())
    return z, residual


def _overlapping(g: Array, gamma: Array, T: Array) -> tuple[Array, Array]:
    """Parameters with log_weight (P, 7) and residuals (P,)."""
    values, residuals = np.empty((len(g), 7)), np.empty(len(g))
    known: dict[float, list[Solution]] = {}
    for k in np.lexsort((g, -T, gamma)):
        point = float(g[k]), float(gamma[k]), float(T[k])
        family = known.setdefault(point[1], [])
        coarse = _reached(family, *point)
        family.append(coarse)
        values[k], residuals[k] = _refined(coarse, point[1])
    return values, residuals


def _reached(known: list[Solution], g: float, gamma: float, T: float) -> Solution:
    """Follow the nearest known solutions to a point, or the branch from its start."""
    by_distance = sorted(known, key=lambda s: _distance(s, g, T))
    for nearest in by_distance[:2]:
        found = _marched(nearest, g, gamma, T)
        if found is not None:
            return found
    start = _branched_off(g, gamma, T)
    found = None if start is None else _marched(start, g, gamma, T)
    if found is not None:
        return found
    raise FloatingPointError(
        f"no solution with an overlap is found at g = {g}, gamma = {gamma}, "
        f"temperature = {T}"
    )


def _distance(known: Solution, g: float, T: float) -> float:
    """In steps: a tenth of the gain counts as a half of the temperature."""
    return float(np.hypot(8 * (g - known.g), np.log(T / known.T)))


def _marched(start: Solution, g: float, gamma: float, T: float) -> Solution | None:
    """Follow a solution along a straight line in g and ln T, with secants."""
    length = _distance(start, g, T)
    done, step, now = 0.0, STEP, start
    before: tuple[float, Array] | None = None
    while done < length:
        step = min(step, length - done)
        part = (done + step) / length
        there = start.g + part * (g - start.g), start.T * (T / start.T) ** part
        if part > 1 - 1e-12:
            there = g, T
        guess = now.z
        if before is not None:
            guess = guess + (now.z - before[1]) * step / (done - before[0])
        found = _solved(guess, there[0], gamma, there[1])
        if found is None or np.abs(found.z - now.z)[[0, 1, 5]].max() > 1:
            step /= 2
            if step < SHORTEST:
                return None
            continue
        before, now = (done, now.z), found
        done += step
        step = min(1.6 * step, STEP)
    return now if length > 0 else _solved(start.z, g, gamma, T)


def _branched_off(g: float, gamma: float, T: float) -> Solution | None:
    """The solution a little below the temperature at which Q leaves 0, or at T."""
    count = int(np.ceil(12 * np.log10(HOT / T)))
    temperatures = T * 10 ** (np.arange(count + 1) / 12)
    ones = np.ones_like(temperatures)
    plain = _plain(g * ones, gamma * ones, temperatures)
    excess = plain.stability - 1
    none = np.flatnonzero(excess <= 0)
    top = int(none[0]) if len(none) > 0 else count + 1
    clear = np.flatnonzero(excess[:top] > CLEAR)
    for k in clear[::-1] if excess[0] > CLEAR else [0, *clear[::-1]]:
        for factor in (2.0, 4.0, 1.0, 8.0):
            share = float(min(factor * excess[k], 0.6))
            z = _guess(plain, int(k), share, g, gamma)
            found = _solved(z, g, gamma, float(temperatures[k]))
            if found is not None:
                return found
    return None


CLEAR = 0.05
"""Excess of the eigenvalue over 1 at which Newton's method tells Q from 0."""


def _guess(plain: Paramagnet, k: int, share: float, g: float, gamma: float) -> Array:
    """Parameters with a small overlap, along the unstable direction."""
    q, r, qhat = (np.array([values[k]]) for values in plain[:3])
    matrix = overlap_matrix(r, 2 * q * qhat / g**2, np.array([g]), np.array([gamma]))
    eigenvalues, directions = np.linalg.eig(matrix[0])
    direction = directions[:, eigenvalues.real.argmax()].real
    overlap, response, conjugate = share * direction / direction[0]
    p = [q[0], overlap * q[0], r[0], response, qhat[0], conjugate / q[0]]
    # A direction without a real root in the law is no number, and not solved from.
    with np.errstate(all="ignore"):
        return _unknowns(np.array(p), g, gamma)


def _refined(coarse: Solution, gamma: float) -> tuple[Array, float]:
    """Parameters on nodes so fine that finer ones change nothing."""
    g, T = coarse.g, coarse.T
    now = coarse
    for size in range(1, len(SIZES)):
        p = _parameters(now.z, g, gamma)
        nodes = _nodes(p, g, gamma, T, size)
        change = float(np.abs(_defect(now.z, g, gamma, T, nodes)[0]).max())
        if change < QUADRATURE:
            return np.append(p, _log_weight(p, g, gamma, T, nodes)), now.residual
        finer = _solved(now.z, g, gamma, T, size)
        if finer is None:
            break
        now = finer
    raise FloatingPointError(
        f"the law of a neuron is not resolved at g = {g}, gamma = {gamma}, temperature "
        f"= {T}: averages still change by {change:.1e}"
    )


def _log_weight(p: Array, g: float, gamma: float, T: float, nodes: Nodes) -> float:
    q, Q, r, R, qhat, Qhat = p
    a = T + g**2 * (q - Q)
    logarithms = _moments(_coefficients(p, g, gamma, T), nodes)[2]
    mean = nodes.weights @ logarithms - np.log(2 * np.pi * a) / 2
    return float(
        mean
        - qhat * q
        + Qhat * Q / 2
        - gamma * g**2 / 2 * (r**2 - R**2)
        - g**2 * Q / (2 * a)
    )
