r"""The tangent kernel of a network, and training that is linear in it.

The tangent kernel is the Gram matrix of the gradients of the outputs,

.. math:: K(x, x') = \nabla F(\theta; x) \cdot \nabla F(\theta; x') .

For the loss :math:`C = \frac12 \sum_j r_j^2` with the residual :math:`r = F(X) - y`
(a *sum* over the training points), gradient descent on the parameters moves the
outputs by :math:`-\eta K r` to first order. With :math:`K` frozen this is solved in
closed form: :func:`linear_dynamics`, and :func:`linear_sgd` for single samples.

Functions of a network take and return tensors; what needs no network is numpy.

Source: Jacot, Gabriel and Hongler (2018); Lee et al. (2019). Derived in the chapter
*The tangent kernel and linear training*.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.utils import _pytree as pytree

from fpbook.memory import available_memory, require_memory
from fpbook.networks import ACTIVATIONS, Network, as_inputs, trace
from fpbook.validation import (
    LARGEST,
    require_callable,
    require_choice,
    require_integer,
    require_integer_between,
    require_no_flags,
    require_non_negative,
    require_positive,
    require_real,
    require_snapshots,
    require_times,
)

Array = NDArray[np.float64]

# --- kernels of networks ------------------------------------------------------------


def empirical(
    network: Network,
    params: Tensor,
    x1: ArrayLike | Tensor,
    x2: ArrayLike | Tensor | None = None,
) -> Tensor:
    r"""Tangent kernel of a network from one forward and one backward pass.

    .. math::
        K(x, x') = \sum_{l=0}^{L} \bigl(\delta^l(x) \cdot \delta^l(x')\bigr)
        \bigl( m_l^2\, a^l(x) \cdot a^l(x') + c_l^2 \bigr)

    No gradient of length P is formed: it has rank one in every layer. The cost is that
    of the passes plus L + 1 products of matrices as thin as the data. Source: derived
    in the chapter *The tangent kernel and linear training*.

    Parameters
    ----------
    network, params
        The network and its parameters, shape (..., P).
    x1, x2
        Inputs, shapes (n1, input_dim) and (n2, input_dim); ``x1`` again if None.

    Returns
    -------
    Tensor
        Kernel, shape (..., n1, n2), in squared outputs per squared parameter.

    Raises
    ------
    ValueError
        If a shape does not fit.
    MemoryError
        If what both passes keep does not fit into the memory that is available.
    """
    a = as_inputs(network, params, x1, "x1")
    b = a if x2 is None else as_inputs(network, params, x2, "x2")
    stacks = params.numel() // params.shape[-1]
    numbers = 3 * (network.depth + 1) * network.width + network.input_dim
    numbers = stacks * (numbers * (len(a) + (0 if x2 is None else len(b))))
    numbers += 6 * stacks * len(a) * len(b)
    require_memory(numbers * params.element_size(), "the tangent kernel")
    first = trace(network, params, a)
    second = first if x2 is None else trace(network, params, b)
    kernel = params.new_zeros(())
    for layer, a1, d1, a2, d2 in zip(
        first.layers,
        first.inputs,
        first.deltas,
        second.inputs,
        second.deltas,
        strict=True,
    ):
        m, c = layer.weight_multiplier, layer.bias_multiplier
        kernel = kernel + (d1 @ d2.mT) * (m**2 * (a1 @ a2.mT) + c**2)
    _require_finite_result(kernel)
    return kernel


def _require_finite_result(kernel: Tensor) -> None:
    if not torch.isfinite(kernel).all():
        raise ValueError(
            "params must be finite and not overflow, nor inputs, got a kernel that is "
            "not finite"
        )


Function = Callable[[Any, Tensor], Tensor]

# Memory that an explicit Jacobian takes while it is made, in units of itself: 1 with
# one tensor per layer, 4 if the function splits a flat vector.
COPIES_OF_A_JACOBIAN = 4


def empirical_of(
    function: Function,
    params: Any,
    x1: Tensor,
    x2: Tensor | None = None,
    memory: float | None = None,
) -> Tensor:
    r"""Tangent kernel of any function that torch can differentiate.

    .. math::
        K(x, x') = \sum_p \partial_p f(\theta; x)\, \partial_p f(\theta; x')

    From explicit Jacobians where these fit into the memory; else column by column,
    each a gradient (one backward pass) followed by a derivative along it (one forward
    pass). Source: the definition.

    Parameters
    ----------
    function
        ``function(params, x)`` returns outputs of shape (n,) for inputs (n, ...). It
        treats each row of ``x`` alone and is differentiable by ``torch.func``, in
        backward mode and, where Jacobians do not fit, in forward mode.
    params
        A tensor, or tensors in nested tuples, lists and dicts; P numbers in all. One
        tensor per layer is faster than one flat vector that ``function`` splits.
    x1, x2
        Inputs, shapes (n1, ...) and (n2, ...); ``x1`` again if None.
    memory
        Bytes that Jacobians may take; None for half of those available.

    Returns
    -------
    Tensor
        Kernel, shape (n1, n2).

    Raises
    ------
    ValueError
        If ``function`` does not return one number per input, ``params`` hold anything
        but tensors, or the kernel is not finite.
    MemoryError
        If not even one gradient with its copies fits.
    """
    require_callable(function=function)
    if memory is not None:
        require_non_negative(memory=memory)
    leaves = pytree.tree_leaves(params)
    if not leaves or not all(isinstance(leaf, Tensor) for leaf in leaves):
        raise ValueError("params must hold at least one tensor, and tensors only")
    if not all(
        leaf.is_floating_point() and torch.isfinite(leaf).all() for leaf in leaves
    ):
        raise ValueError("params must hold real, finite tensors, got one that is not")
    # Parameters of a module ask for gradients: each column would keep its graph.
    params = pytree.tree_map(lambda leaf: leaf.detach(), params)
    x1 = _require_rows("x1", x1)
    other = x1 if x2 is None else _require_rows("x2", x2)
    if (other.dtype, other.shape[1:]) != (x1.dtype, x1.shape[1:]):
        raise ValueError(
            f"x2 must have rows like those of x1, {x1.dtype} of shape "
            f"{tuple(x1.shape[1:])}, got {other.dtype} of {tuple(other.shape[1:])}"
        )
    _check_outputs(function, params, x1)
    gradient = sum(leaf.numel() * leaf.element_size() for leaf in leaves)
    allowed = available_memory() / 2 if memory is None else memory
    require_memory(
        COPIES_OF_A_JACOBIAN * gradient, "one gradient with its copies", allowed
    )

    def single(theta: Any, x: Tensor) -> Tensor:
        return function(theta, x[None])[0]

    gradients = torch.func.vmap(torch.func.grad(single), in_dims=(None, 0))
    rows = len(x1) + (0 if x2 is None else len(other))
    if COPIES_OF_A_JACOBIAN * rows * gradient <= allowed:
        first = pytree.tree_leaves(gradients(params, x1))
        second = first if x2 is None else pytree.tree_leaves(gradients(params, other))
        grams = [
            J1.reshape(len(x1), -1) @ J2.reshape(len(other), -1).T
            for J1, J2 in zip(first, second, strict=True)
        ]
        kernel = torch.stack(grams).sum(dim=0)
    else:
        columns = [
            _derivative_along(function, params, x1, torch.func.grad(single)(params, x))
            for x in other
        ]
        kernel = torch.stack(columns, dim=1)
    _require_finite_result(kernel)
    return kernel


def _require_rows(name: str, x: ArrayLike | Tensor) -> Tensor:
    if isinstance(x, Tensor):
        # Where it is: as_tensor would take it to the default device.
        points = x
    else:
        require_real(name, x)
        points = torch.as_tensor(x)
    if points.dim() < 1 or not points.numel():
        raise ValueError(
            f"{name} must have at least one row, got {tuple(points.shape)}"
        )
    if points.is_complex() or not torch.isfinite(points).all():
        raise ValueError(f"{name} must be real and finite, got {points}")
    return points


def _check_outputs(function: Function, params: Any, x1: Tensor) -> None:
    try:
        outputs = function(params, x1)
    except (RuntimeError, TypeError, ValueError) as problem:
        raise ValueError(
            f"function must take params and x1 as they are, got an error: {problem}"
        ) from problem
    if not isinstance(outputs, Tensor) or outputs.shape != (len(x1),):
        raise ValueError(
            f"function must return shape ({len(x1)},) for {len(x1)} inputs x1, got "
            f"{tuple(outputs.shape) if isinstance(outputs, Tensor) else outputs!r}"
        )
    if not torch.isfinite(outputs).all():
        raise ValueError(
            f"function must return finite numbers at params, got {outputs}"
        )


def _derivative_along(
    function: Function, params: Any, x: Tensor, direction: Any
) -> Tensor:
    with warnings.catch_warnings():
        # torch compiles its forward-mode formulas with torch.jit, which it deprecates.
        warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated")
        moved = torch.func.jvp(lambda p: function(p, x), (params,), (direction,))
    return cast("Tensor", moved[1])


# --- the limit of infinite width ----------------------------------------------------

CONVERGED = 1e-10
"""Part of the mean square of an activation that its expansion may leave out."""

LARGEST_DEPTH = 100_000
# Terms of the first and of the longest expansion.
TERMS = (32, 1024)


def infinite_width(
    x1: ArrayLike,
    x2: ArrayLike | None,
    depth: int,
    activation: str,
    sigma_w: float = 1.0,
    sigma_b: float = 0.0,
) -> Array:
    r"""Tangent kernel of the ``ntk`` parametrisation at infinite width.

    .. math::
        S^1 &= \frac{\sigma_w^2}{n_0}\, x \cdot x' + \sigma_b^2, \qquad \Theta^1 = S^1,
        \\
        S^{l+1} &= \sigma_w^2\, \mathrm{E}\, \varphi(u) \varphi(v) + \sigma_b^2, \qquad
        \Theta^{l+1} = S^{l+1} + \sigma_w^2\,
            \mathrm{E}\, \varphi'(u) \varphi'(v)\; \Theta^l

    with :math:`(u, v)` normal of mean 0 and covariance :math:`S^l`; the kernel is
    :math:`\Theta^{L+1}`. The averages are closed forms for ``erf`` (Williams, 1998),
    ``relu`` (Cho and Saul, 2010) and ``gelu`` (Tsuchida et al., 2021). For ``tanh``
    both factors are expanded in Hermite polynomials, whose coefficients are integrals
    over one variable; the average is then a power series in the correlation of u and v
    (Mehler's formula), cut where Parseval's identity bounds the rest by 1e-10. Source:
    Jacot, Gabriel and Hongler (2018); derived in the chapter *The tangent kernel and
    linear training*.

    Parameters
    ----------
    x1, x2
        Inputs, shapes (n1, input_dim) and (n2, input_dim); ``x1`` again if None.
    depth
        Hidden layers, L from 1 to 100,000.
    activation
        ``"erf"``, ``"tanh"``, ``"gelu"`` or ``"relu"``.
    sigma_w, sigma_b
        As in :func:`fpbook.networks.mlp`.

    Returns
    -------
    array
        Kernel, shape (n1, n2).

    Raises
    ------
    ValueError
        If an argument is out of range.
    FloatingPointError
        If 1024 terms of the expansion do not reach 1e-10, for tanh when fields have a
        variance of about 12; or if the kernel overflows. Closed forms lose digits with
        the variance q of equal inputs: they are off by about 1e-16 q.
    """
    require_integer_between(1, LARGEST_DEPTH, depth=depth)
    require_choice(tuple(_AVERAGES), activation=activation)
    require_positive(sigma_w=sigma_w)
    require_non_negative(sigma_b=sigma_b)
    first = _points("x1", x1)
    second = first if x2 is None else _points("x2", x2, first.shape[1])
    averages = _AVERAGES[activation]
    weight, bias = sigma_w**2, sigma_b**2
    with np.errstate(all="ignore"):
        # Covariance of each pair, and the variances of its two members.
        s = weight * (first @ second.T) / first.shape[1] + bias
        q1 = weight * (first**2).mean(axis=1)[:, None] + bias
        q2 = weight * (second**2).mean(axis=1)[None, :] + bias
        kernel = s
        for layer in range(depth):
            if layer:
                q1, q2 = (weight * averages(q, q, q)[0] + bias for q in (q1, q2))
            product, slopes = averages(s, q1, q2)
            s = weight * product + bias
            kernel = s + weight * slopes * kernel
    if not np.isfinite(kernel).all():
        raise FloatingPointError("the kernel overflows: inputs or sigmas are too large")
    return np.asarray(kernel)


def _points(name: str, values: ArrayLike, width: int | None = None) -> Array:
    x = require_real(name, values)
    if x.ndim != 2 or not x.size or x.shape[1] != (width or x.shape[1]):
        like = f"(n, {width}) as x1" if width else "(n, d)"
        raise ValueError(f"{name} must have shape {like}, got {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return x


def _erf_averages(s: Array, q1: Array, q2: Array) -> tuple[Array, Array]:
    norm = (1 + 2 * q1) * (1 + 2 * q2)
    product = 2 / np.pi * np.arcsin(2 * s / np.sqrt(norm))
    return product, 4 / np.pi / np.sqrt(norm - 4 * s**2)


def _correlation(s: Array, q1: Array, q2: Array) -> tuple[Array, Array]:
    """Geometric mean of the variances, and the covariance in units of it."""
    norm = np.sqrt(q1 * q2)
    return norm, np.divide(s, norm, out=np.zeros(np.shape(s + norm)), where=norm > 0)


def _relu_averages(s: Array, q1: Array, q2: Array) -> tuple[Array, Array]:
    norm, cosine = _correlation(s, q1, q2)
    angle = np.arccos(np.clip(cosine, -1, 1))
    product = norm * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
    return product, (np.pi - angle) / (2 * np.pi)


def _gelu_averages(s: Array, q1: Array, q2: Array) -> tuple[Array, Array]:
    """By parts from ``E Phi(u) Phi(v)``; the slopes are the derivative by s (Price)."""
    spread = (1 + q1) * (1 + q2)
    rest = spread - s**2
    both = 1 / 4 + np.arctan2(s, np.sqrt(rest)) / (2 * np.pi)
    density = 1 / (2 * np.pi * np.sqrt(rest))
    share = (1 - q1 * q2) / spread
    bent = (q1 * q2 + share * s**2) * density
    return s * both + bent, both + s * ((1 + 2 * share) * density + bent / rest)


def _expansion(
    function: Callable[[Array], Array], slope: Callable[[Array], Array]
) -> Callable[[Array, Array, Array], tuple[Array, Array]]:
    """Make the averages of an activation by Mehler's formula."""

    def averages(s: Array, q1: Array, q2: Array) -> tuple[Array, Array]:
        _, rho = _correlation(s, q1, q2)
        return _mehler(function, rho, q1, q2), _mehler(slope, rho, q1, q2)

    return averages


def _mehler(
    function: Callable[[Array], Array], rho: Array, q1: Array, q2: Array
) -> Array:
    r"""Mean of ``f(u) f(v)`` as the series of ``a_k(q1) a_k(q2) rho^k``."""
    terms = TERMS[0]
    while terms <= TERMS[1]:
        first, rest1 = _hermite_coefficients(function, q1, terms)
        second, rest2 = _hermite_coefficients(function, q2, terms)
        # At most the geometric mean of both rests is missing, by Cauchy-Schwarz.
        if max(rest1, rest2) <= CONVERGED:
            total = np.zeros(np.broadcast_shapes(rho.shape, q1.shape, q2.shape))
            term = np.empty_like(total)
            for k in reversed(range(terms)):
                total *= rho
                total += np.multiply(first[k], second[k], out=term)
            return total
        terms *= 2
    raise FloatingPointError(
        f"{TERMS[1]} terms of the expansion leave out {max(rest1, rest2):.1e} of the "
        f"mean square; variances reach {max(q1.max(), q2.max()):.3g}"
    )


def _hermite_coefficients(
    function: Callable[[Array], Array], q: Array, terms: int
) -> tuple[Array, float]:
    """Coefficients ``E f(sqrt(q) z) h_k(z)``, shape (terms, *q.shape), and the rest."""
    z, functions = _hermite_functions(terms)
    # Flat, for one product of matrices is faster than one for each variance.
    values = function(np.sqrt(q.ravel()) * z[:, None]) * functions[0][:, None]
    coefficients = (functions @ values) * (z[1] - z[0])
    square = (values**2).sum(axis=0) * (z[1] - z[0])
    missing = square - (coefficients**2).sum(axis=0)
    scale = np.where(square > 0, square, 1.0)
    return coefficients.reshape(terms, *q.shape), float((missing / scale).max())


@cache
def _hermite_functions(terms: int) -> tuple[Array, Array]:
    """Orthonormal polynomials of the normal density times its square root, on a grid.

    Sums over this equidistant grid are exact to rounding: the functions vanish at its
    ends and oscillate slowly compared with its spacing.
    """
    edge = 12.0 + 2 * math.sqrt(terms)
    z = np.linspace(-edge, edge, 2 * math.ceil(edge * (4 + math.sqrt(terms))) + 1)
    functions = np.empty((terms, len(z)))
    functions[0] = np.exp(-(z**2) / 4) / (2 * math.pi) ** 0.25
    functions[1] = z * functions[0]
    for k in range(1, terms - 1):
        functions[k + 1] = z * functions[k] - math.sqrt(k) * functions[k - 1]
        functions[k + 1] /= math.sqrt(k + 1)
    return z, functions


def _on_arrays(function: Callable[[Tensor], Tensor]) -> Callable[[Array], Array]:
    return lambda u: np.asarray(function(torch.from_numpy(np.asarray(u))))


_AVERAGES: dict[str, Callable[[Array, Array, Array], tuple[Array, Array]]] = {
    "erf": _erf_averages,
    "tanh": _expansion(*map(_on_arrays, ACTIVATIONS["tanh"])),
    "gelu": _gelu_averages,
    "relu": _relu_averages,
}

# --- training with a frozen kernel --------------------------------------------------

# Of the largest eigenvalue of a kernel: what is below counts as zero; what rounding may
# leave in a kernel of asymmetry, or below zero.
RANK = 1e-14
ROUNDING = 1e-8


def linear_dynamics(
    kernel: ArrayLike,
    targets: ArrayLike,
    f0: ArrayLike,
    times: ArrayLike | None = None,
    *,
    steps: ArrayLike | None = None,
    learning_rate: float | None = None,
    test_kernel: ArrayLike | None = None,
) -> Array:
    r"""Outputs while training with a frozen kernel, in closed form.

    With :math:`K = U \lambda U^T` on the training points, :math:`k` between test and
    training points, and :math:`r_0 = F_0 - y`,

    .. math::
        F(t) &= y + U e^{-\lambda t} U^T r_0, \\
        F_{test}(t) &= F_{test,0} - k\, U\, \frac{1 - e^{-\lambda t}}{\lambda}\,
            U^T r_0

    for gradient flow; gradient descent has :math:`(1 - \eta\lambda)^s` for
    :math:`e^{-\lambda t}`. For :math:`\lambda \to 0` the fraction is the time
    :math:`t = \eta s`. Source: derived in the chapter *The tangent kernel and linear
    training*; Lee et al. (2019).

    Parameters
    ----------
    kernel
        Symmetric, positive semidefinite up to rounding, shape (..., m, m).
    targets
        :math:`y`, shape (..., m).
    f0
        Outputs at the start, shape (..., m), or (..., m + n) with n test points behind
        the training points.
    times
        Training times of gradient flow, >= 0 and increasing, shape (T,); or
    steps
        step counts of gradient descent, >= 0, shape (T,), with
    learning_rate
        :math:`\eta > 0`, at most 2 over the largest eigenvalue.
    test_kernel
        Between test and training points, shape (..., n, m); needed if there are test
        points.

    Returns
    -------
    array
        Outputs, shape (T, ..., m) or (T, ..., m + n).

    Raises
    ------
    ValueError
        If not exactly one of ``times`` and ``steps`` is given, a shape does not fit,
        the kernel is not symmetric or has a negative eigenvalue, or the learning rate
        is missing, superfluous or too large.
    """
    rows, y, start = _linear_problem(kernel, targets, f0, test_kernel)
    K = rows[..., : y.shape[-1], :]
    values, vectors = np.linalg.eigh(K)
    scale = np.abs(values).max(axis=-1, keepdims=True)
    largest = float(scale.max())
    values = np.where(values < RANK * scale, 0.0, values)
    if (times is None) == (steps is None):
        raise ValueError("give exactly one of times and steps")
    m = y.shape[-1]
    modes = np.einsum("...ji,...j->...i", vectors, start[..., :m] - y)
    column = (-1, *[1] * modes.ndim)
    if times is not None:
        if learning_rate is not None:
            raise ValueError(
                f"learning_rate goes with steps, not with times, got {learning_rate}"
            )
        t = require_times(times).reshape(column)
        learnt = -np.expm1(-values * t)
    else:
        eta = _require_stable(learning_rate, largest)
        s = _require_counts(steps).reshape(column)
        t, x = eta * s, eta * values
        # Of slow modes 1 - (1 - x)^s would keep few digits.
        slow = -np.expm1(s * np.log1p(-np.minimum(x, 0.5)))
        learnt = np.where(x < 0.5, slow, 1 - (1 - x) ** s)
    zero = values == 0
    divisor = np.where(zero, 1.0, values)
    # Integral over time of the residual, mode by mode; F = F_0 - K times it.
    integral = np.where(zero, t, learnt / divisor) * modes
    outputs = np.repeat(start[None], len(t), axis=0)
    # K U = U lambda: through K small eigenvalues would lose their digits.
    outputs[..., :m] -= np.einsum("...ij,t...j->t...i", vectors, learnt * modes)
    seen = rows[..., m:, :] @ vectors
    outputs[..., m:] -= np.einsum("...ij,t...j->t...i", seen, integral)
    return outputs


def _require_counts(steps: ArrayLike | None) -> Array:
    require_no_flags("steps", steps)
    counts = np.atleast_1d(require_real("steps", np.asarray(steps)))
    if (
        counts.ndim != 1
        or not counts.size
        or not np.isfinite(counts).all()
        or np.any(counts != np.round(counts))
        or counts[0] < 0
        or np.any(np.diff(counts) <= 0)
    ):
        raise ValueError(
            f"steps must be whole numbers, >= 0 and increasing, got {steps!r}"
        )
    return counts


def linear_sgd(
    kernel: ArrayLike,
    targets: ArrayLike,
    f0: ArrayLike,
    samples: ArrayLike,
    learning_rate: float,
    *,
    noise: ArrayLike | None = None,
    snapshots: Sequence[int] | None = None,
    test_kernel: ArrayLike | None = None,
) -> Array:
    r"""Outputs of single-sample gradient descent with a frozen kernel.

    .. math::
        F \leftarrow F - \eta\, K(\cdot, x_s)\, \bigl( F(x_s) - y_s - \epsilon_s \bigr)

    Source: derived in the chapter *Weak correlations*.

    Parameters
    ----------
    kernel, targets, f0, test_kernel
        As in :func:`linear_dynamics`.
    samples
        Index of the training point of each step, shape (steps,).
    learning_rate
        :math:`\eta > 0`, at most 2 over the largest diagonal element of the kernel.
    noise
        Label noise :math:`\epsilon` of each step, shape (steps,); None for none.
    snapshots
        Step counts to return, increasing, from 0 to ``steps``; None for the last.

    Returns
    -------
    array
        Outputs, shape (len(snapshots), ..., m) or (len(snapshots), ..., m + n).

    Raises
    ------
    ValueError
        If an argument is out of range or a shape does not fit.
    """
    rows, y, f = _linear_problem(kernel, targets, f0, test_kernel)
    largest = float(np.diagonal(rows, axis1=-2, axis2=-1).max())
    _require_stable(learning_rate, largest)
    chosen, epsilon, kept = sgd_schedule(y.shape[-1], samples, noise, snapshots)
    # Of outputs less targets, and with the learning rate in the kernel.
    shift = np.zeros_like(f)
    shift[..., : y.shape[-1]] = y
    r, path, recorded = f - shift, [], set(kept)
    columns = np.ascontiguousarray(np.moveaxis(learning_rate * rows, -1, 0))
    j, labels = chosen.tolist(), epsilon.tolist()
    for step in range(kept[-1] + 1):
        if step in recorded:
            path.append(r + shift)
        if step < kept[-1]:
            r -= columns[j[step]] * (r[..., j[step], None] - labels[step])
    return np.stack(path)


def sgd_schedule(
    points: int,
    samples: ArrayLike,
    noise: ArrayLike | None,
    snapshots: Sequence[int] | None,
) -> tuple[NDArray[np.int64], Array, list[int]]:
    """Check the samples, the label noise and the snapshots of single-sample SGD.

    Parameters
    ----------
    points
        Number of training points, >= 1.
    samples, noise, snapshots
        As in :func:`linear_sgd`.

    Returns
    -------
    tuple
        Samples and noise as arrays, shape (steps,), and the snapshots as a list.

    Raises
    ------
    ValueError
        If one of them does not fit ``points`` training points.
    """
    require_integer(1, points=points)
    require_real("samples", samples)
    require_no_flags("samples", samples)
    chosen = np.asarray(samples)
    if (
        chosen.ndim != 1
        or not np.issubdtype(chosen.dtype, np.integer)
        or np.any((chosen < 0) | (chosen >= points))
    ):
        raise ValueError(
            f"samples must be indices from 0 to {points - 1}, of {points} points, "
            f"shape (steps,), got "
            f"shape {chosen.shape} of {chosen.dtype}"
        )
    epsilon = np.zeros(len(chosen)) if noise is None else require_real("noise", noise)
    if epsilon.shape != chosen.shape or not np.isfinite(epsilon).all():
        raise ValueError(
            f"noise must be finite and of the shape {chosen.shape} of samples, got "
            f"{epsilon.shape}"
        )
    return chosen.astype(np.int64), epsilon, require_snapshots(snapshots, len(chosen))


def _require_stable(learning_rate: float | None, largest: float) -> float:
    if learning_rate is None:
        raise ValueError("learning_rate must be given with steps, got None")
    require_positive(learning_rate=learning_rate)
    if learning_rate * largest > 2:
        raise ValueError(
            f"learning_rate must be at most 2 / {largest:.4g} = {2 / largest:.4g} of "
            f"this kernel, got {learning_rate:.4g}"
        )
    return learning_rate


def _rounding_of(kind: np.dtype[Any]) -> float:
    """Part of the largest element or eigenvalue that rounding may leave."""
    single = np.issubdtype(kind, np.floating) and np.finfo(kind).eps > 1e-10
    return 1e-5 if single else ROUNDING


def _linear_problem(
    kernel: ArrayLike,
    targets: ArrayLike,
    f0: ArrayLike,
    test_kernel: ArrayLike | None,
) -> tuple[Array, Array, Array]:
    """Return all rows of the kernel, (..., m + n, m), the targets and the start.

    The start gets the leading axes of all arguments.
    """
    K, y = require_real("kernel", kernel), require_real("targets", targets)
    rounding = _rounding_of(np.asarray(kernel).dtype)
    start = require_real("f0", f0)
    given = {"kernel": K, "targets": y, "f0": start}
    if test_kernel is not None:
        given["test_kernel"] = require_real("test_kernel", test_kernel)
    for name, array in given.items():
        if not array.size or not np.all(np.abs(array) <= LARGEST):
            raise ValueError(
                f"{name} must be finite, of a size up to {LARGEST:g}, and not empty, "
                f"got shape {array.shape}"
            )
    if K.ndim < 2 or K.shape[-1] != K.shape[-2]:
        raise ValueError(f"kernel must have shape (..., m, m), got {K.shape}")
    m = K.shape[-1]
    k = given.get("test_kernel", np.empty((0, m)))
    if k.ndim < 2 or k.shape[-1] != m:
        raise ValueError(f"test_kernel must have shape (..., n, {m}), got {k.shape}")
    if y.shape[-1:] != (m,):
        raise ValueError(f"targets must have shape (..., {m}), got {y.shape}")
    outputs = m + k.shape[-2]
    if start.shape[-1:] != (outputs,):
        raise ValueError(
            f"f0 must have shape (..., {outputs}): {m} training points and "
            f"{k.shape[-2]} rows of test_kernel; got {start.shape}"
        )
    asymmetry = np.abs(K - np.swapaxes(K, -1, -2)).max(axis=(-1, -2))
    if np.any(asymmetry > rounding * np.abs(K).max(axis=(-1, -2))):
        raise ValueError(
            "kernel must be symmetric, got one that differs from its transpose by "
            f"{asymmetry.max():.3g}"
        )
    values = np.linalg.eigvalsh(K)
    if np.any(values[..., 0] < -rounding * np.abs(values).max(axis=-1)):
        raise ValueError(
            "kernel must be positive semidefinite, got an eigenvalue of "
            f"{values.min():.3g} beside one of {np.abs(values).max():.3g}"
        )
    leads = [K.shape[:-2], k.shape[:-2], y.shape[:-1], start.shape[:-1]]
    try:
        lead = np.broadcast_shapes(*leads)
    except ValueError as problem:
        raise ValueError(
            "kernel, test_kernel, targets and f0 must have leading axes that fit, got "
            f"{leads}"
        ) from problem
    stack = np.broadcast_shapes(*leads[:2])
    rows = [np.broadcast_to(a, stack + a.shape[-2:]) for a in (K, k)]
    return np.concatenate(rows, axis=-2), y, np.broadcast_to(start, (*lead, outputs))
