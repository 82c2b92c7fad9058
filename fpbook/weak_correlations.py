r"""Derivative correlations of a network: why, and how far, its training is linear.

A derivative correlation contracts a high derivative of one output with first
derivatives of outputs,

.. math::
    C_{D,d}(x; x_1, .., x_d) = \frac{\eta^{D/2+d}}{D!\, d!}\,
    \nabla^{D+d} F(x) \cdot \nabla F(x_1) \otimes .. \otimes \nabla F(x_d)

with D parameter indices left free. Functions of this module leave out the power of
the learning rate. :math:`C_{0,1}` is the tangent kernel. Contracted with a residual
:math:`r` on all d samples, the :math:`C_{0,d}` are the Taylor coefficients of the
output along one gradient step (:func:`taylor_coefficients`), which needs neither the
derivatives nor even a gradient of length P.

A gradient flow obeys :math:`\dot F = -K r`, :math:`\dot K = -K_3 r`,
:math:`\dot K_3 = -K_4 r`, .. with higher kernels made of derivative correlations;
:func:`tangent_hierarchy` freezes the last one.

Source: our reconstruction of what the abstract of Shem-Ur and Oz (2024) speaks of;
Huang and Yau (2020) for the hierarchy; derived in the chapter *Weak correlations*.
"""

import math
from itertools import combinations, combinations_with_replacement, count, product
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import solve_ivp
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh
from torch import Tensor

from fpbook.memory import require_memory
from fpbook.networks import Network, as_inputs, as_residual, jacobian, trace
from fpbook.tangent_kernel import linear_dynamics
from fpbook.taylor_series import COMPOSITIONS
from fpbook.validation import (
    LARGEST,
    require_integer,
    require_integer_between,
    require_real,
    require_times,
)

Array = NDArray[np.float64]

# From this order on the coefficients of a wide network lie below what single precision
# resolves beside the output itself.
ORDER_FOR_DOUBLE = 4

# --- along one step -----------------------------------------------------------------


def taylor_coefficients(
    network: Network,
    params: Tensor,
    x_train: ArrayLike | Tensor,
    residual: Tensor,
    x: ArrayLike | Tensor,
    order: int,
) -> Tensor:
    r"""Taylor coefficients of the outputs along a gradient direction.

    .. math::
        f_k(x) = \frac{1}{k!} \frac{d^k}{ds^k}
            F\bigl(\theta + s\, J(X)^T r;\, x\bigr) \Big|_{s=0}
        = \sum_{j_1 .. j_k} C_{0,k}(x; x_{j_1}, .., x_{j_k})\, r_{j_1} .. r_{j_k}

    (without powers of the learning rate), all of them in one pass: in layer :math:`l`
    the direction is :math:`m_l \sum_j r_j\, \delta^l_j (a^l_j)^T`, so that the series
    of the field follows from products with the data,

    .. math::
        h_k = m W a_k + m^2 \sum_j r_j \delta_j\, (a_j \cdot a_{k-1})
        + c^2 \sum_j r_j \delta_j\, [k = 1] + c\, b\, [k = 0] .

    Source: derived in the chapter *Weak correlations*.

    Parameters
    ----------
    network, params
        The network and its parameters, shape (..., P).
    x_train
        Training points X, shape (m, input_dim).
    residual
        :math:`r`, shape (..., m). A further leading axis asks for several directions,
        which needs ``params`` of shape (P,).
    x
        Where to evaluate, shape (n, input_dim).
    order
        Highest coefficient, >= 0.

    Returns
    -------
    Tensor
        Shape (order + 1, ..., n); row 0 is :math:`F`, row 1 is :math:`K r`. For relu
        the series of the linear piece at ``params``; kinks are not seen.

    Raises
    ------
    ValueError
        If a shape does not fit, or orders >= 4 are asked of float32 parameters.
    MemoryError
        If the series do not fit into the memory that is available.
    """
    require_integer(0, order=order)
    points = as_inputs(network, params, x)
    _require_double(params, order)
    train = as_inputs(network, params, x_train, "x_train")
    r = as_residual(params, len(train), residual, "x_train")
    lead = params.shape[:-1] or r.shape[:-1]
    size = 10 * (order + 1) * math.prod(lead) * len(points)
    size += 5 * (network.depth + 1) * math.prod(params.shape[:-1]) * len(train)
    size *= network.width * params.element_size()
    require_memory(size, f"the series of order {order}")
    seen = trace(network, params, train)
    series = params.new_zeros(order + 1, *lead, *points.shape)
    series[0] = points
    compose = COMPOSITIONS[network.activation]
    field = series
    parts = zip(seen.layers, seen.inputs, seen.deltas, strict=True)
    for number, ((weight, bias, m, c), a, delta) in enumerate(parts):
        series = compose(field) if number else series
        field = m * _through(weight, series)
        field[0] += c * bias[..., None, :]
        if order:
            sources = r[..., None] * delta
            field[1:] += m**2 * ((series[:-1] @ a.mT) @ sources)
            field[1] += c**2 * sources.sum(-2)[..., None, :]
    return network.output_scale * field[..., 0]


def _through(weight: Tensor, series: Tensor) -> Tensor:
    """All orders through one weight: to broadcast over them would copy the weights."""
    rows = series.movedim(0, -2)
    moved: Tensor = rows.flatten(-3, -2) @ weight.mT
    orders: Tensor = moved.unflatten(-2, rows.shape[-3:-1]).movedim(-2, 0)
    return orders


def _require_double(params: Tensor, order: int) -> None:
    if order >= ORDER_FOR_DOUBLE and params.dtype != torch.float64:
        raise ValueError(
            f"params must be float64 for orders >= {ORDER_FOR_DOUBLE}, got "
            f"{params.dtype} for order {order}"
        )


# --- tensors and norms --------------------------------------------------------------

# Directions whose series are computed together.
DIRECTIONS = 64

LARGEST_ORDER = 20
MOST_EVALUATIONS = 100_000


def correlation_tensor(
    network: Network, params: Tensor, x: ArrayLike | Tensor, order: int
) -> Tensor:
    r"""The whole tensor :math:`C_{0,d}` of a few points.

    .. math::
        C[i, j_1, .., j_d] = \frac{1}{d!}\, \nabla^d F(x_i) \cdot
            \nabla F(x_{j_1}) \otimes .. \otimes \nabla F(x_{j_d})

    by polarisation: a symmetric form is known once its diagonal :math:`f_d(x_i; r)`,
    from :func:`taylor_coefficients`, is known for small integer :math:`r`. Order 1 is
    the tangent kernel. Source: derived in the chapter *Weak correlations*.

    Parameters
    ----------
    network, params
        One network and its parameters, shape (P,).
    x
        Points, shape (n, input_dim); the cost grows as n to the power of the order.
    order
        Number of first derivatives, d from 1 to 20.

    Returns
    -------
    Tensor
        Shape (n,) * (order + 1), without powers of the learning rate. Symmetric in all
        axes but the first.

    Raises
    ------
    ValueError
        If an argument is out of range, ``params`` has a leading axis, or orders >= 4
        are asked of float32 parameters.
    MemoryError
        If the tensor does not fit into the memory that is available.
    """
    require_integer_between(1, LARGEST_ORDER, order=order)
    points = as_inputs(network, params, x)
    _require_single(params)
    _require_double(params, order)
    n = len(points)
    require_memory(2 * n ** (order + 1) * params.element_size(), "the tensor")
    groups = [
        group
        for size in range(1, order + 1)
        for group in combinations_with_replacement(range(n), size)
    ]
    directions = params.new_zeros(len(groups), n)
    for row, group in zip(directions, groups, strict=True):
        for j in group:
            row[j] += 1
    forms = [
        taylor_coefficients(network, params, points, rows, points, order)[order]
        for rows in directions.split(DIRECTIONS)
    ]
    form = dict(zip(groups, torch.cat(forms), strict=True))
    entries = {
        indices: _polarise(form, indices)
        for indices in combinations_with_replacement(range(n), order)
    }
    columns = [
        entries[tuple(sorted(indices))] for indices in product(range(n), repeat=order)
    ]
    tensor: Tensor = torch.stack(columns, dim=-1).unflatten(-1, (n,) * order)
    return tensor


def _polarise(form: dict[tuple[int, ...], Tensor], indices: tuple[int, ...]) -> Tensor:
    """Multilinear form at basis vectors, from its diagonal at sums of them."""
    order = len(indices)
    total = torch.zeros_like(form[indices])
    for size in range(1, order + 1):
        for group in combinations(indices, size):
            total += (-1) ** (order - size) * form[group]
    return total / math.factorial(order)


def _require_single(params: Tensor) -> None:
    if params.dim() != 1:
        raise ValueError(
            f"params must have shape (P,), one network, got {tuple(params.shape)}"
        )


LARGEST_FREE = 2


def derivative_norm(
    network: Network, params: Tensor, x: ArrayLike | Tensor, D: int, d: int
) -> Tensor:
    r"""Norm of a derivative correlation in its free parameter indices.

    .. math::
        \lVert C_{D,d} \rVert = \frac{1}{D!\, d!}\,
            \bigl\lVert \nabla^{D+d} F(x_0) \cdot
            \nabla F(x_1) \otimes .. \otimes \nabla F(x_d) \bigr\rVert

    without powers of the learning rate: the absolute value for D = 0, the Euclidean
    norm for D = 1, and for D = 2 the largest absolute eigenvalue, found by Lanczos
    iterations on products with vectors. ``D=1, d=1`` is the Hessian times a gradient.
    Computed by repeated reverse-mode differentiation. Source: the definition in the
    chapter *Weak correlations*.

    Parameters
    ----------
    network, params
        The network and its parameters, shape (P,), or (S, P), one after the other.
    x
        :math:`x_0, x_1, .., x_d`, shape (1 + d, input_dim).
    D
        Number of free indices: 0, 1 or 2.
    d
        Number of gradients, >= 0; each multiplies the cost by about two.

    Returns
    -------
    Tensor
        A number, shape () or (S,).

    Raises
    ------
    ValueError
        If an argument is out of range or a shape does not fit.
    FloatingPointError
        If the Lanczos iterations fail.
    """
    require_integer_between(0, LARGEST_FREE, D=D)
    require_integer(0, d=d)
    points = as_inputs(network, params, x)
    if len(points) != d + 1:
        raise ValueError(
            f"x must hold 1 + d = {d + 1} points, x_0 and one for each gradient, got "
            f"{len(points)}"
        )
    if not params.numel() or not torch.isfinite(params).all():
        raise ValueError(
            "params must be finite and not empty, got NaN, infinity or shape "
            f"{tuple(params.shape)}"
        )
    if params.dim() > 1:
        norms = [derivative_norm(network, theta, points, D, d) for theta in params]
        return torch.stack(norms)
    directions = jacobian(network, params.detach(), points[1:]) if d else points[:0]
    with torch.enable_grad():
        theta = params.detach().clone().requires_grad_(True)
        value = network(theta, points[:1])[0]
        for direction in directions:
            value = (_gradient(value, theta) * direction).sum()
        value = value / (math.factorial(D) * math.factorial(d))
        if D == 0:
            return value.detach().abs()
        slope = _gradient(value, theta)
        norm = slope.detach().norm() if D == 1 else _largest_curvature(slope, theta)
        return torch.as_tensor(norm, dtype=params.dtype, device=params.device)


def _gradient(value: Tensor, theta: Tensor) -> Tensor:
    if not value.requires_grad:
        return torch.zeros_like(theta)
    slope: Tensor = torch.autograd.grad(
        value, theta, create_graph=True, materialize_grads=True
    )[0]
    return slope


def _largest_curvature(slope: Tensor, theta: Tensor) -> float:
    """Largest absolute eigenvalue of the derivative of a gradient."""

    def times(vector: Array) -> Array:
        v = torch.from_numpy(vector.ravel()).to(theta)
        (moved,) = torch.autograd.grad(
            slope, theta, v, retain_graph=True, materialize_grads=True
        )
        return moved.cpu().numpy().astype(float)

    size = theta.numel()
    matrix = LinearOperator((size, size), matvec=times, dtype=float)
    start = np.random.default_rng(0).standard_normal(size)
    if not times(start).any():
        return 0.0
    try:
        (value,) = eigsh(matrix, k=1, v0=start, return_eigenvectors=False)
    except ArpackError as problem:
        raise FloatingPointError(f"Lanczos iterations failed: {problem}") from problem
    return abs(float(value))


# --- the hierarchy of kernels -------------------------------------------------------


class Hierarchy(NamedTuple):
    r"""Prediction of a frozen hierarchy.

    Attributes
    ----------
    outputs
        Predicted outputs on training and test points, shape (T, m + n).
    linear
        Those of the frozen tangent kernel alone, of the same shape: their difference is
        the predicted deviation from linearity.
    kernels
        :math:`K` and, up to the order asked for, :math:`K_3` and :math:`K_4`, shapes
        (m + n, m), (m + n, m, m), (m + n, m, m, m).
    """

    outputs: Array
    linear: Array
    kernels: tuple[Array, ...]


def tangent_hierarchy(
    network: Network,
    params: Tensor,
    x_train: ArrayLike | Tensor,
    y: ArrayLike,
    x_test: ArrayLike | Tensor | None,
    times: ArrayLike,
    order: int,
) -> Hierarchy:
    r"""Gradient flow predicted by kernels at the start, the last of them frozen.

    .. math::
        \dot F_i &= -K_{ij} r_j, \qquad \dot K_{ij} = -K_{3,ijk} r_k, \qquad
        \dot K_{3,ijk} = -K_{4,ijkl} r_l,
        \\
        K_{3,ijk} &= g_k \cdot (H_i g_j + H_j g_i),
        \\
        K_{4,ijkl} &= T_i(g_j, g_k, g_l) + H_i g_j \cdot H_k g_l
            + H_i g_k \cdot H_j g_l + (i \leftrightarrow j)

    with :math:`g_i`, :math:`H_i`, :math:`T_i` the first three derivatives of
    :math:`F(x_i)`; sums run over training points. Source: Huang and Yau (2020); the
    right-hand sides are derived in the chapter *Weak correlations*.

    Parameters
    ----------
    network, params
        One network and its parameters at the start, float64, shape (P,).
    x_train, y
        Training points, shape (m, input_dim), and targets, shape (m,).
    x_test
        Test points, shape (n, input_dim); None for none.
    times
        Training times, >= 0 and increasing, shape (T,).
    order
        2 freezes :math:`K`, 3 freezes :math:`K_3`, 4 freezes :math:`K_4`.

    Returns
    -------
    Hierarchy
        Predicted outputs, linear ones, and the kernels.

    Raises
    ------
    ValueError
        If an argument is out of range, a shape does not fit or ``params`` are not
        float64.
    MemoryError
        For order 4, if :math:`(m + n)^2` vectors of length P do not fit.
    FloatingPointError
        If the equations cannot be integrated: a truncated hierarchy may run away.
    """
    require_integer_between(2, 4, order=order)
    t = require_times(times)
    train = as_inputs(network, params, x_train, "x_train")
    _require_single(params)
    if params.dtype != torch.float64:
        raise ValueError(f"params must be float64, got {params.dtype}")
    tests = (
        train[:0] if x_test is None else as_inputs(network, params, x_test, "x_test")
    )
    points, m = torch.cat([train, tests]), len(train)
    targets = require_real("y", y)
    if targets.shape != (m,) or not np.all(np.abs(targets) <= LARGEST):
        raise ValueError(
            f"y must be finite, of shape ({m},) as x_train, got {targets.shape}"
        )
    theta = params.detach()
    f0 = network(theta, points).cpu().numpy()
    kernels = _kernels(network, theta, points, m, order)
    if not all(np.all(np.abs(part) <= LARGEST) for part in (f0, *kernels)):
        raise FloatingPointError(
            "outputs and tensors at the start must be finite, of a size up to "
            f"{LARGEST:g}; they are not"
        )
    K = kernels[0]
    k = K[m:] if len(tests) else None
    linear = linear_dynamics(K[:m], targets, f0, t, test_kernel=k)
    if order == 2:
        return Hierarchy(linear.copy(), linear, kernels)
    shapes = [f0.shape, *[kernel.shape for kernel in kernels[:-1]]]
    sizes = [math.prod(shape) for shape in shapes]

    evaluations = count(1)

    def velocity(time: float, state: Array) -> Array:
        if next(evaluations) > MOST_EVALUATIONS:
            raise FloatingPointError(
                f"the hierarchy frozen at order {order} is at time {time:.6g} after "
                f"{MOST_EVALUATIONS} evaluations: it is too stiff"
            )
        parts = np.split(state, np.cumsum(sizes)[:-1])
        r = parts[0][:m] - targets
        moving = [p.reshape(s) for p, s in zip(parts[1:], shapes[1:], strict=True)]
        return np.concatenate([-(q @ r).ravel() for q in (*moving, kernels[-1])])

    start = np.concatenate([f0, *[kernel.ravel() for kernel in kernels[:-1]]])
    span, tolerances = (0.0, t[-1] or 1.0), {"rtol": 1e-10, "atol": 1e-13}
    # Trial steps may overflow; the step control rejects them.
    with np.errstate(all="ignore"):
        flow = solve_ivp(velocity, span, start, "DOP853", t, **tolerances)
    if flow.status != 0 or not np.isfinite(flow.y).all():
        raise FloatingPointError(
            f"the hierarchy frozen at order {order} stopped after time "
            f"{flow.t[-1] if len(flow.t) else 0:.6g}: {flow.message}"
        )
    return Hierarchy(flow.y[: len(f0)].T, linear, kernels)


def _kernels(
    network: Network, theta: Tensor, points: Tensor, m: int, order: int
) -> tuple[Array, ...]:
    """K, K3, .. up to the order, over all points and then m training points."""
    size = len(points)
    g = jacobian(network, theta, points)
    found = [(g @ g[:m].T).cpu().numpy()]
    if order >= 3:
        C2 = correlation_tensor(network, theta, points, 2)
        K3 = 2 * (C2 + C2.transpose(0, 1))
        found.append(K3[:, :m, :m].cpu().numpy())
    if order >= 4:
        needed = (size**2 + 4) * theta.numel() * theta.element_size()
        require_memory(needed, "the kernel of order 4")
        bent = _hessian_products(network, theta, points, g)
        flat = bent.flatten(0, 1)
        dots = (flat @ flat.T).reshape(size, size, size, size)
        C3 = correlation_tensor(network, theta, points, 3)
        half = 6 * C3 + dots + dots.transpose(1, 2)
        K4 = half + half.transpose(0, 1)
        found.append(K4[:, :m, :m, :m].cpu().numpy())
    return tuple(found)


def _hessian_products(
    network: Network, theta: Tensor, points: Tensor, g: Tensor
) -> Tensor:
    """All products ``H_i g_j``, shape (n, n, P)."""
    products = g.new_empty(len(g), *g.shape)
    with torch.enable_grad():
        at = theta.clone().requires_grad_(True)
        for i, output in enumerate(network(at, points)):
            slope = _gradient(output, at)
            for j, direction in enumerate(g):
                (products[i, j],) = torch.autograd.grad(
                    slope, at, direction, retain_graph=True, materialize_grads=True
                )
    return products
