r"""Tiny autoencoders, their gradient noise, and the densities of their weights.

**A1** has two weights, :math:`\hat x = w_2\, \phi(w_1 x)`. It learns to return a
:math:`x \sim N(0, s^2)` from the noisy target :math:`y = x + \sigma \xi`,
:math:`\xi \sim N(0, 1)`. The loss is without the constant :math:`\sigma^2 / 2`,

.. math::
    L(w) = \tfrac12\, E\,(\hat x - x)^2 + \tfrac{\lambda}{2} |w|^2, \qquad
    \text{linear:}\quad L = \tfrac{s^2}{2} (1 - u)^2 + \tfrac{\lambda}{2} |w|^2
    \quad\text{with}\quad u = w_1 w_2 .

**A2**, and any linear autoencoder :math:`\hat x = W_2 W_1 x` with a bottleneck of
:math:`k` units, :math:`W_1` of shape (k, d) and :math:`W_2` of shape (d, k), has

.. math::
    L = \tfrac12 \operatorname{tr}\bigl[R\, S\, R^T\bigr]
        + \tfrac{\lambda}{2} \bigl(|W_1|^2 + |W_2|^2\bigr), \qquad R = 1 - W_2 W_1,

for data :math:`x \sim N(0, S)`; A2 is :math:`k = 1`, :math:`d = 2`, and the linear A1
is :math:`k = d = 1`. Vectors of weights are row-major: first the rows of :math:`W_1`,
then those of :math:`W_2`.

Conventions: :math:`C(w)` is the covariance of the gradient of *one* sample. Stochastic
gradient descent (SGD) with learning rate :math:`\eta` and batches of :math:`B` samples
is, to leading order in :math:`\eta`, the Ito equation
:math:`dw = -\nabla L\, dt + \sqrt{2 D(w)}\, dB` with :math:`D = \eta C / (2B)` and
training time :math:`t` = learning rate × step; a temperature :math:`T` stands for
:math:`D = T` times the identity. :math:`\lambda` is ``weight_decay`` in signatures; it
is part of :math:`L` and of its gradient and makes no noise.

**One matrix at a time** is the mean-field approximation
:math:`p(W_1, W_2, t) \approx p_1(W_1, t)\, p_2(W_2, t)`: each density obeys a
Fokker-Planck equation of its own, in the loss averaged over the other one. What the
two matrices know of each other is lost, and the marginals suffer from it.

Source: derived in the chapters *From SGD to Fokker-Planck* and *Weight densities of a
two-bottleneck autoencoder*. That each weight matrix of an autoencoder has a
Fokker-Planck equation of its own is the idea of Bu, Kol and Liu, "Fokker-Planck to
Callan-Symanzik: evolution of weight matrices under training" (arXiv 2501.09659), of
which only the abstract and the introduction were read; the networks are ours.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special
from scipy.integrate import solve_ivp

from fpbook import progress
from fpbook.fokker_planck import (
    NORMALISATION,
    WALL_MASS,
    FokkerPlanck,
    Grid,
    MassAtWallWarning,
    NegativeDensityWarning,
)
from fpbook.time_stepping import SMOOTHING_STEPS, Step, lu_step

Array = NDArray[np.float64]
Field = Callable[[Array], Array]
Activation = Literal["linear", "erf", "tanh"]
Variant = Literal["coupled", "frozen"]


# --- A1: two weights ----------------------------------------------------------------


def scalar_loss(
    w: ArrayLike,
    activation: Activation = "linear",
    data_scale: float = 1.0,
    weight_decay: float = 0.0,
) -> Array:
    r"""Loss of A1, :math:`\hat x = w_2\, \phi(w_1 x)`.

    .. math::
        L = \tfrac12 \bigl[ s^2 - 2 w_2\, E\,x\phi(w_1 x) + w_2^2\, E\,\phi(w_1 x)^2
            \bigr] + \tfrac{\lambda}{2} |w|^2

    with :math:`x \sim N(0, s^2)`; for the error function, with
    :math:`a = 1 + 2 w_1^2 s^2`,

    .. math::
        E\,x\phi = \frac{2 w_1 s^2}{\sqrt{\pi a}}, \qquad
        E\,\phi^2 = \frac{2}{\pi} \arcsin \frac{a - 1}{a} .

    The hyperbolic tangent is averaged by quadrature, to a relative error of 1e-13 for
    :math:`|w_1| s \le 1000`. Source: derived in the chapter *From SGD to
    Fokker-Planck*.

    Parameters
    ----------
    w
        Weights of one or many networks, shape (..., 2); column 0 is :math:`w_1`.
    activation
        :math:`\phi`: "linear", "erf" or "tanh".
    data_scale
        Standard deviation :math:`s > 0` of the data.
    weight_decay
        :math:`\lambda \ge 0`.

    Returns
    -------
    array
        Loss, shape (...).

    Raises
    ------
    ValueError
        If an argument is out of range or has the wrong shape.
    """
    weights = _pairs(w)
    _require_activation(activation)
    _require_positive(data_scale=data_scale)
    _require_non_negative(weight_decay=weight_decay)
    w1, w2 = weights[..., 0], weights[..., 1]
    if activation == "linear":
        loss = data_scale**2 * (1 - w1 * w2) ** 2 / 2
    elif activation == "erf":
        a = 1 + 2 * (w1 * data_scale) ** 2
        signal = 2 * w1 * data_scale**2 / np.sqrt(np.pi * a)
        power = 2 / np.pi * np.arcsin((a - 1) / a)
        loss = data_scale**2 / 2 - w2 * signal + w2**2 * power / 2
    else:
        loss = _average(lambda e, _: e**2 / 2, weights, activation, data_scale)
    return np.asarray(loss + weight_decay * np.sum(weights**2, axis=-1) / 2)


def _pairs(w: ArrayLike) -> Array:
    weights = np.asarray(w, dtype=float)
    if weights.ndim == 0 or weights.shape[-1] != 2:
        raise ValueError(
            f"w must have shape (..., 2), columns w1 and w2, got {weights.shape}"
        )
    return weights


def _require_activation(activation: str) -> None:
    if activation not in get_args(Activation):
        raise ValueError(
            f"activation must be one of {get_args(Activation)}, got {activation!r}"
        )


def _require_positive(**arguments: float) -> None:
    for name, value in arguments.items():
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be finite and > 0, got {value}")


def _require_non_negative(**arguments: float) -> None:
    for name, value in arguments.items():
        if not (np.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be finite and >= 0, got {value}")


# Trapezoidal rule for averages of even functions over x ~ N(0, 1), in log x: there the
# poles of tanh(w1 x) stay at the same distance from the real axis whatever w1 is, which
# neither Gauss-Hermite nodes nor equal steps in x can offer. The step makes errors of
# 2e-14; below exp(-20) lies nothing to speak of unless |w1| exceeds 1e3.
_LOG_STEP = 0.125
_NODES: Array = np.exp(np.arange(-20, 2.5, _LOG_STEP))
_NODE_WEIGHTS: Array = (
    2 * _LOG_STEP * _NODES * np.exp(-(_NODES**2) / 2) / np.sqrt(2 * np.pi)
)
_NETWORKS_AT_ONCE = 2**12


def _average(
    integrand: Callable[[Array, Array], Array],
    w: Array,
    activation: Activation,
    data_scale: float,
) -> Array:
    """Average ``integrand(error, jacobian)`` over the data, for each network.

    For n networks and m nodes the error x - x_hat is (n, m), the derivative of x_hat by
    the weights is (2, n, m), and the integrand is (..., n, m). Returns the shape of
    ``w`` without its last axis, followed by the leading axes of the integrand.
    """
    networks, x = w.reshape(-1, 2), data_scale * _NODES
    blocks = []
    for start in range(0, max(len(networks), 1), _NETWORKS_AT_ONCE):
        block = networks[start : start + _NETWORKS_AT_ONCE]
        output, jacobian = _network(block, x, activation)
        blocks.append(integrand(x - output, jacobian) @ _NODE_WEIGHTS)
    averages = np.moveaxis(np.concatenate(blocks, axis=-1), -1, 0)
    return averages.reshape(w.shape[:-1] + averages.shape[1:])


def _network(w: Array, x: Array, activation: Activation) -> tuple[Array, Array]:
    """Output (n, m) and its derivative by the weights (2, n, m), for inputs (n, m)."""
    w1, w2 = w[:, :1], w[:, 1:]
    z = w1 * x
    if activation == "linear":
        phi, slope = z, np.ones_like(z)
    elif activation == "erf":
        phi, slope = special.erf(z), 2 / np.sqrt(np.pi) * np.exp(-(z**2))
    else:
        # 1 - tanh^2 would lose the digits of the tail, on which the gradient lives.
        decay = np.exp(-2 * np.abs(z))
        phi, slope = np.tanh(z), 4 * decay / (1 + decay) ** 2
    return w2 * phi, np.stack([w2 * x * slope, phi])


def scalar_gradient(
    w: ArrayLike,
    activation: Activation = "linear",
    data_scale: float = 1.0,
    weight_decay: float = 0.0,
) -> Array:
    r"""Gradient of :func:`scalar_loss`.

    .. math::
        \nabla L = -E \Bigl[ (x - \hat x)
            \begin{pmatrix} w_2\, x\, \phi'(w_1 x) \\ \phi(w_1 x) \end{pmatrix} \Bigr]
            + \lambda w, \qquad
        \text{linear:}\quad -s^2 (1 - u)
            \begin{pmatrix} w_2 \\ w_1 \end{pmatrix} + \lambda w

    Closed forms and quadrature as in :func:`scalar_loss`. Source: derived in the
    chapter *From SGD to Fokker-Planck*.

    Parameters
    ----------
    w, activation, data_scale, weight_decay
        As in :func:`scalar_loss`.

    Returns
    -------
    array
        Gradient, shape (..., 2).

    Raises
    ------
    ValueError
        If an argument is out of range or has the wrong shape.
    """
    weights = _pairs(w)
    _require_activation(activation)
    _require_positive(data_scale=data_scale)
    _require_non_negative(weight_decay=weight_decay)
    w1, w2 = weights[..., 0], weights[..., 1]
    gradient: Array
    if activation == "linear":
        gradient = -(data_scale**2) * (1 - w1 * w2)[..., None] * weights[..., ::-1]
    elif activation == "erf":
        variance = data_scale**2
        a = 1 + 2 * w1**2 * variance
        signal = 2 * w1 * variance / np.sqrt(np.pi * a)
        signal_slope = 2 * variance / np.sqrt(np.pi * a**3)
        power = 2 / np.pi * np.arcsin((a - 1) / a)
        power_slope = 8 * w1 * variance / (np.pi * a * np.sqrt(2 * a - 1))
        gradient = np.stack(
            [w2**2 * power_slope / 2 - w2 * signal_slope, w2 * power - signal], axis=-1
        )
    else:
        gradient = _average(lambda e, jac: -e * jac, weights, activation, data_scale)
    return gradient + weight_decay * weights


def scalar_noise(
    w: ArrayLike,
    activation: Activation = "linear",
    data_scale: float = 1.0,
    label_noise: float = 0.0,
) -> Array:
    r"""Covariance :math:`C(w)` of the gradient of one sample of A1.

    .. math::
        C = \operatorname{Cov}_x \bigl[(x - \hat x)\, J\bigr]
            + \sigma^2\, E\bigl[J J^T\bigr], \qquad
        J = \begin{pmatrix} w_2\, x\, \phi'(w_1 x) \\ \phi(w_1 x) \end{pmatrix}

    A linear A1 has noise of rank one,

    .. math::
        C = c(u)\, v v^T, \qquad v = \begin{pmatrix} w_2 \\ w_1 \end{pmatrix}, \qquad
        c(u) = 2 s^4 (1 - u)^2 + \sigma^2 s^2 .

    The others are averaged by quadrature, to a relative error of 1e-13 of
    :math:`E[g g^T]` for :math:`|w_1| s \le 1000`. Source: derived in the chapter *From
    SGD to Fokker-Planck*.

    Parameters
    ----------
    w, activation, data_scale
        As in :func:`scalar_loss`.
    label_noise
        Standard deviation :math:`\sigma \ge 0` of the noise in the target.

    Returns
    -------
    array
        Covariance, shape (..., 2, 2), symmetric. SGD with batches of :math:`B`
        has :math:`D = \eta C / (2B)`.

    Raises
    ------
    ValueError
        If an argument is out of range or has the wrong shape.
    """
    weights = _pairs(w)
    _require_activation(activation)
    _require_positive(data_scale=data_scale)
    _require_non_negative(label_noise=label_noise)
    noise: Array
    if activation == "linear":
        u = weights[..., 0] * weights[..., 1]
        strength = 2 * data_scale**4 * (1 - u) ** 2 + (label_noise * data_scale) ** 2
        v = weights[..., ::-1]
        noise = strength[..., None, None] * v[..., :, None] * v[..., None, :]
        return noise
    second_moment = _average(
        lambda e, jac: (e**2 + label_noise**2) * jac[[0, 0, 1]] * jac[[0, 1, 1]],
        weights,
        activation,
        data_scale,
    )
    mean = scalar_gradient(weights, activation, data_scale)
    noise = second_moment[..., [[0, 1], [1, 2]]]
    return noise - mean[..., :, None] * mean[..., None, :]


def scalar_minibatch_gradient(
    w: ArrayLike,
    batch: ArrayLike,
    activation: Activation = "linear",
    weight_decay: float = 0.0,
) -> Array:
    r"""Gradient of A1 on minibatches, each network on its own.

    .. math::
        g = -\frac1B \sum_{b=1}^B \bigl(y_b - w_2\, \phi(w_1 x_b)\bigr)
            \begin{pmatrix} w_2\, x_b\, \phi'(w_1 x_b) \\ \phi(w_1 x_b) \end{pmatrix}
            + \lambda w

    Its mean is :func:`scalar_gradient`, its covariance :func:`scalar_noise` over
    :math:`B`. Source: derived in the chapter *From SGD to Fokker-Planck*.

    Parameters
    ----------
    w
        Weights, shape (n, 2); column 0 is :math:`w_1`.
    batch
        Samples, shape (n, B, 2); ``batch[..., 0]`` is :math:`x` and ``batch[..., 1]``
        the target :math:`y`.
    activation, weight_decay
        As in :func:`scalar_loss`.

    Returns
    -------
    array
        Gradients, shape (n, 2).

    Raises
    ------
    ValueError
        If an argument is out of range or has the wrong shape.
    """
    weights, samples = _pairs(w), np.asarray(batch, dtype=float)
    _require_activation(activation)
    _require_non_negative(weight_decay=weight_decay)
    if weights.ndim != 2:
        raise ValueError(f"w must have shape (n, 2), got {weights.shape}")
    if (
        samples.ndim != 3
        or samples.shape[::2] != weights.shape
        or samples.shape[1] == 0
    ):
        raise ValueError(
            f"batch must have shape (n, B, 2) with n = {len(weights)} and B >= 1, "
            f"got {samples.shape}"
        )
    x, y = samples[..., 0], samples[..., 1]
    output, jacobian = _network(weights, x, activation)
    gradient: Array = -np.mean((y - output) * jacobian, axis=-1).T
    return gradient + weight_decay * weights


def balance_step(
    difference: ArrayLike,
    residual: ArrayLike,
    learning_rate: float,
    weight_decay: float = 0.0,
) -> Array:
    r"""Balance :math:`q = w_1^2 - w_2^2` of a linear A1 after one step of SGD, exactly.

    .. math::
        q_{k+1} = \bigl[(1 - \eta\lambda)^2 - \eta^2 r_k^2\bigr]\, q_k, \qquad
        r_k = \frac1B \sum_{b=1}^B (y_b - u x_b)\, x_b .

    The step mixes :math:`w_1` and :math:`w_2` by :math:`1 - \eta\lambda` on and
    :math:`\eta r_k` off the diagonal. Balanced weights stay balanced, and without decay
    gradient flow conserves :math:`q`. Source: derived in the chapter *From SGD to
    Fokker-Planck*; Ziyin, Li and Ueda (arXiv 2308.06671) state the law of balance for
    the stochastic differential equation.

    Parameters
    ----------
    difference
        :math:`q_k`, one or many.
    residual
        :math:`r_k` of the minibatch of this step, in data squared; broadcasts.
    learning_rate
        :math:`\eta > 0`.
    weight_decay
        :math:`\lambda \ge 0`.

    Returns
    -------
    array
        :math:`q_{k+1}`.

    Raises
    ------
    ValueError
        If ``learning_rate`` or ``weight_decay`` is out of range.
    """
    _require_positive(learning_rate=learning_rate)
    _require_non_negative(weight_decay=weight_decay)
    growth = (1 - learning_rate * weight_decay) ** 2
    turn = learning_rate * np.asarray(residual, dtype=float)
    return np.asarray((growth - turn**2) * np.asarray(difference, dtype=float))


# --- A2: two matrices ---------------------------------------------------------------


def matrix_loss(
    W1: ArrayLike, W2: ArrayLike, covariance: ArrayLike, weight_decay: float = 0.0
) -> Array:
    r"""Loss of the linear autoencoder :math:`\hat x = W_2 W_1 x`.

    .. math::
        L = \tfrac12 \operatorname{tr}\bigl[(1 - W_2 W_1)\, S\, (1 - W_2 W_1)^T\bigr]
            + \tfrac{\lambda}{2} \bigl(|W_1|^2 + |W_2|^2\bigr)

    Source: derived in the chapter *Weight densities of a two-bottleneck autoencoder*.

    Parameters
    ----------
    W1, W2
        Weights of one or many networks, shapes (..., k, d) and (..., d, k).
    covariance
        :math:`S` of the data, symmetric and positive semidefinite, shape (d, d).
    weight_decay
        :math:`\lambda \ge 0`.

    Returns
    -------
    array
        Loss, shape (...).

    Raises
    ------
    ValueError
        If an argument is out of range or has the wrong shape.
    """
    first, second, S = _matrices(W1, W2, covariance)
    _require_non_negative(weight_decay=weight_decay)
    residual = np.eye(len(S)) - second @ first
    decay = np.sum(first**2, axis=(-2, -1)) + np.sum(second**2, axis=(-2, -1))
    return np.asarray(
        np.sum((residual @ S) * residual, axis=(-2, -1)) / 2 + weight_decay * decay / 2
    )


def _matrices(
    W1: ArrayLike, W2: ArrayLike, covariance: ArrayLike
) -> tuple[Array, Array, Array]:
    S = _covariance("covariance", covariance)
    first, second = np.asarray(W1, dtype=float), np.asarray(W2, dtype=float)
    if first.ndim < 2 or first.shape[-1] != len(S):
        raise ValueError(
            f"W1 must have shape (..., k, d) with d = {len(S)} as in the covariance, "
            f"got {first.shape}"
        )
    _require_partner("W2", second, first.shape)
    return first, second, S


def _covariance(name: str, values: ArrayLike, size: int | None = None) -> Array:
    """Check a covariance; a number stands for that number times the identity."""
    matrix = np.asarray(values, dtype=float)
    if matrix.ndim == 0:
        matrix = matrix * np.eye(size or 1)
    expected = "square" if size is None else f"of shape {(size, size)}"
    if matrix.ndim != 2 or matrix.shape != (size or len(matrix),) * 2:
        raise ValueError(f"{name} must be {expected}, got shape {matrix.shape}")
    scale = np.abs(matrix).max()
    if (
        not np.isfinite(scale)
        or np.abs(matrix - matrix.T).max() > ROUNDING * scale
        or np.linalg.eigvalsh(matrix)[0] < -ROUNDING * scale
    ):
        raise ValueError(
            f"{name} must be finite, symmetric and positive semidefinite, got "
            f"{matrix.tolist()}"
        )
    return matrix


# Relative defect of symmetry and positivity that a covariance may have.
ROUNDING = 1e-12


def _matrix(values: ArrayLike) -> Array:
    matrix = np.asarray(values, dtype=float)
    return matrix.reshape(1, 1) if matrix.ndim == 0 else matrix


def _require_partner(name: str, second: Array, shape: Sequence[int]) -> None:
    *networks, k, d = shape
    if second.shape != (*networks, d, k):
        raise ValueError(
            f"{name} must have the shape {(*networks, d, k)} of the transposed first "
            f"matrix, got {second.shape}"
        )


def matrix_gradient(
    W1: ArrayLike, W2: ArrayLike, covariance: ArrayLike, weight_decay: float = 0.0
) -> tuple[Array, Array]:
    r"""Gradient of :func:`matrix_loss` by both matrices.

    .. math::
        G_1 = -W_2^T R S + \lambda W_1, \qquad G_2 = -R S W_1^T + \lambda W_2, \qquad
        R = 1 - W_2 W_1

    Source: derived in the chapter *Weight densities of a two-bottleneck autoencoder*.

    Parameters
    ----------
    W1, W2, covariance, weight_decay
        As in :func:`matrix_loss`.

    Returns
    -------
    tuple
        :math:`G_1` of shape (..., k, d) and :math:`G_2` of shape (..., d, k).

    Raises
    ------
    ValueError
        If an argument is out of range or has the wrong shape.
    """
    first, second, S = _matrices(W1, W2, covariance)
    _require_non_negative(weight_decay=weight_decay)
    pull = (np.eye(len(S)) - second @ first) @ S
    return (
        weight_decay * first - _transposed(second) @ pull,
        weight_decay * second - pull @ _transposed(first),
    )


def _transposed(matrices: Array) -> Array:
    return np.swapaxes(matrices, -1, -2)


def matrix_noise(
    W1: ArrayLike, W2: ArrayLike, covariance: ArrayLike, label_noise: float = 0.0
) -> Array:
    r"""Covariance :math:`C` of the gradient of one sample, for Gaussian data.

    The residual :math:`e = R x + \sigma \xi` of a sample makes every entry of both
    gradients a product of two normal numbers, :math:`g_\alpha = -(n_\alpha \cdot e)\,
    (v_\alpha \cdot x)`: for the entry :math:`(i, j)` of the first matrix
    :math:`n_\alpha` is column :math:`i` of :math:`W_2` and :math:`v_\alpha` the unit
    vector :math:`j`; of the second, the unit vector :math:`i` and row :math:`j` of
    :math:`W_1`. With these as the rows of :math:`n` and :math:`v`, and
    :math:`u = n R`, Wick's theorem gives

    .. math::
        C = (u S u^T) \circ (v S v^T) + (u S v^T) \circ (v S u^T)
            + \sigma^2\, (n n^T) \circ (v S v^T)

    with :math:`\circ` entry by entry. The block of the first matrix is, without label
    noise, :math:`\operatorname{Cov}(g_{ij}, g_{kl}) = (A S A^T)_{ik} S_{jl}
    + (A S)_{il} (A S)_{kj}` with :math:`A = W_2^T R`. Source: derived in the chapter
    *Weight densities of a two-bottleneck autoencoder*.

    Parameters
    ----------
    W1, W2, covariance
        As in :func:`matrix_loss`.
    label_noise
        Standard deviation :math:`\sigma \ge 0` of the noise in each entry of the
        target :math:`y = x + \sigma \xi`.

    Returns
    -------
    array
        Covariance, shape (..., 2kd, 2kd), for the row-major entries of :math:`W_1`
        followed by those of :math:`W_2`.

    Raises
    ------
    ValueError
        If an argument is out of range or has the wrong shape.
    """
    first, second, S = _matrices(W1, W2, covariance)
    _require_non_negative(label_noise=label_noise)
    *networks, k, d = first.shape
    unit = np.broadcast_to(np.eye(d), (*networks, d, d))
    n = np.concatenate(
        [np.repeat(_transposed(second), d, axis=-2), np.repeat(unit, k, axis=-2)],
        axis=-2,
    )
    v = np.concatenate(
        [np.tile(unit, (k, 1)), np.tile(first, (d, 1))],
        axis=-2,
    )
    u = n @ (unit - second @ first)
    crossed = u @ S @ _transposed(v)
    return np.asarray(
        (u @ S @ _transposed(u) + label_noise**2 * n @ _transposed(n))
        * (v @ S @ _transposed(v))
        + crossed * _transposed(crossed)
    )


def frozen_hessian(
    W2: ArrayLike, covariance: ArrayLike, weight_decay: float = 0.0
) -> Array:
    r"""Hessian of the loss in the first matrix, with the second one frozen.

    .. math:: H = (W_2^T W_2) \otimes S + \lambda

    It does not depend on :math:`W_1`: with a constant diffusion the density of the
    first matrix is that of :func:`ornstein_uhlenbeck`. Source: derived in the chapter
    *Weight densities of a two-bottleneck autoencoder*.

    Parameters
    ----------
    W2
        Second matrix, shape (d, k).
    covariance, weight_decay
        As in :func:`matrix_loss`.

    Returns
    -------
    array
        Hessian in the row-major entries of :math:`W_1`, shape (kd, kd).

    Raises
    ------
    ValueError
        If an argument is out of range or has the wrong shape.
    """
    second, S = _matrix(W2), _covariance("covariance", covariance)
    _require_non_negative(weight_decay=weight_decay)
    if second.ndim != 2 or len(second) != len(S):
        raise ValueError(
            f"W2 must have shape (d, k) with d = {len(S)} as in the covariance, got "
            f"{second.shape}"
        )
    hessian = np.kron(second.T @ second, S)
    return np.asarray(hessian + weight_decay * np.eye(len(hessian)))


def ornstein_uhlenbeck(
    hessian: ArrayLike,
    diffusion: ArrayLike,
    minimum: ArrayLike,
    mean0: ArrayLike,
    covariance0: ArrayLike,
    times: ArrayLike,
) -> tuple[Array, Array]:
    r"""Mean and covariance of weights in a quadratic loss with constant diffusion.

    .. math::
        m(t) = m_* + e^{-Ht} (m_0 - m_*), \qquad
        V(t) = e^{-Ht}\, V_0\, e^{-Ht} + 2 \int_0^t e^{-H\tau} D\, e^{-H\tau} d\tau .

    Where :math:`H` is positive definite this is :math:`V_{ss} + e^{-Ht}
    (V_0 - V_{ss}) e^{-Ht}` with :math:`H V_{ss} + V_{ss} H = 2D`. Flat directions
    diffuse freely and negative curvature is allowed. A normal density stays normal.
    Source: derived in the chapter *From SGD to Fokker-Planck*; the stationary state is
    that of Mandt, Hoffman and Blei (arXiv 1704.04289).

    Parameters
    ----------
    hessian
        :math:`H`, symmetric, in 1 / time, shape (P, P).
    diffusion
        :math:`D`, in weight squared per time: a number >= 0, or a symmetric positive
        semidefinite matrix (P, P).
    minimum
        :math:`m_*`, where the gradient vanishes, shape (P,).
    mean0, covariance0
        Start, shapes (P,) and (P, P); a number is that covariance times the identity.
    times
        Times >= 0, increasing, shape (n,).

    Returns
    -------
    tuple
        Means (n, P) and covariances (n, P, P).

    Raises
    ------
    ValueError
        If an argument is out of range or has the wrong shape.
    """
    H = _matrix(hessian)
    if H.ndim != 2 or H.shape[0] != H.shape[1] or not np.all(np.isfinite(H)):
        raise ValueError(f"hessian must be square and finite, got shape {H.shape}")
    if np.abs(H - H.T).max() > ROUNDING * np.abs(H).max():
        raise ValueError(f"hessian must be symmetric, got {H.tolist()}")
    size = len(H)
    D = _covariance("diffusion", diffusion, size)
    V0 = _covariance("covariance0", covariance0, size)
    center, start = _vector("minimum", minimum, size), _vector("mean0", mean0, size)
    t = _times(times)
    rates, modes = np.linalg.eigh(H)
    decay = np.exp(-np.multiply.outer(t, rates))
    means = center + decay * ((start - center) @ modes) @ modes.T
    pair_rates = rates[:, None] + rates
    elapsed = t[:, None, None]
    # exprel(z) = (exp(z) - 1) / z: the integral of exp(-pair_rates tau) up to t.
    grown = elapsed * special.exprel(-elapsed * pair_rates)
    in_modes = (
        decay[:, :, None] * (modes.T @ V0 @ modes) * decay[:, None, :]
        + 2 * (modes.T @ D @ modes) * grown
    )
    return means, np.asarray(modes @ in_modes @ modes.T)


def _vector(name: str, values: ArrayLike, size: int) -> Array:
    vector = np.atleast_1d(np.asarray(values, dtype=float))
    if vector.shape != (size,) or not np.all(np.isfinite(vector)):
        raise ValueError(
            f"{name} must be finite and of shape ({size},), got {values!r}"
        )
    return vector


def _times(times: ArrayLike) -> Array:
    t = np.atleast_1d(np.asarray(times, dtype=float))
    if (
        t.ndim != 1
        or not t.size
        or not np.all(np.isfinite(t) & (t >= 0))
        or np.any(np.diff(t) <= 0)
    ):
        raise ValueError(
            f"times must be >= 0 and increasing, shape (n,), got {times!r}"
        )
    return t


# --- four weights as two: rotation-invariant losses of a 2 x 2 matrix ---------------


def rotation_radii(W: ArrayLike) -> Array:
    r"""Two radii that stand for the singular values of a 2 × 2 matrix.

    .. math::
        W = \begin{pmatrix} a & b \\ c & d \end{pmatrix}: \qquad
        r_+ = \frac{|(a + d,\ c - b)|}{\sqrt2}, \qquad
        r_- = \frac{|(a - d,\ b + c)|}{\sqrt2} .

    The two vectors are an orthonormal change of the four entries, so that
    :math:`|W|^2 = r_+^2 + r_-^2` and :math:`\det W = (r_+^2 -
    r_-^2) / 2`; rotating :math:`W` from the left or right rotates each of them.
    Source: derived in the chapter *Weight densities of a two-bottleneck autoencoder*.

    Parameters
    ----------
    W
        Matrices, shape (..., 2, 2).

    Returns
    -------
    array
        :math:`(r_+, r_-)`, both >= 0, shape (..., 2).

    Raises
    ------
    ValueError
        If ``W`` has the wrong shape.
    """
    matrices = np.asarray(W, dtype=float)
    if matrices.ndim < 2 or matrices.shape[-2:] != (2, 2):
        raise ValueError(f"W must have shape (..., 2, 2), got {matrices.shape}")
    a, b = matrices[..., 0, 0], matrices[..., 0, 1]
    c, d = matrices[..., 1, 0], matrices[..., 1, 1]
    radii = np.stack([np.hypot(a + d, c - b), np.hypot(a - d, b + c)], axis=-1)
    return np.asarray(radii / np.sqrt(2))


def singular_values(radii: ArrayLike) -> Array:
    r"""Singular values of a 2 × 2 matrix from its :func:`rotation_radii`.

    .. math::
        \sigma_1 = \frac{r_+ + r_-}{\sqrt2}, \qquad
        \sigma_2 = \frac{|r_+ - r_-|}{\sqrt2}

    Source: derived in the chapter *Weight densities of a two-bottleneck autoencoder*.

    Parameters
    ----------
    radii
        :math:`(r_+, r_-)`, both >= 0, shape (..., 2).

    Returns
    -------
    array
        :math:`(\sigma_1, \sigma_2)` with :math:`\sigma_1 \ge \sigma_2 \ge 0`, shape
        (..., 2).

    Raises
    ------
    ValueError
        If ``radii`` has the wrong shape or a negative entry.
    """
    pairs = np.asarray(radii, dtype=float)
    if pairs.ndim == 0 or pairs.shape[-1] != 2 or not np.all(pairs >= 0):
        raise ValueError(
            f"radii must have shape (..., 2) and entries >= 0, got {radii!r} of shape "
            f"{pairs.shape}"
        )
    total, difference = pairs.sum(axis=-1), pairs[..., 0] - pairs[..., 1]
    return np.asarray(np.stack([total, np.abs(difference)], axis=-1) / np.sqrt(2))


def rotation_invariant_potential(
    loss_of_singular_values: Field, temperature: float
) -> Field:
    r"""Potential in which four weights move as their two :func:`rotation_radii`.

    .. math::
        U(r_+, r_-) = L(\sigma_1, \sigma_2) - T \log r_+ - T \log r_-

    If the loss of a 2 × 2 matrix :math:`W` depends on its singular values alone and
    :math:`D = T`, then :math:`r_+` and :math:`r_-` are each the distance from
    the origin of a plane, and their joint density per :math:`dr_+\, dr_-`,
    circumferences included, obeys the Fokker-Planck equation with potential
    :math:`U` and :math:`D = T`, on ``Grid([0, 0], [R, R], cells)``. Source: derived in
    the chapter *Weight densities of a two-bottleneck autoencoder*.

    Parameters
    ----------
    loss_of_singular_values
        :math:`L`, callable (n, 2) -> (n,) of :math:`\sigma_1 \ge \sigma_2 \ge 0`.
        For tied weights, :math:`L = \tfrac12 |1 - W^T W|^2 = \tfrac12 \sum_i
        (1 - \sigma_i^2)^2`.
    temperature
        :math:`T > 0`.

    Returns
    -------
    callable
        :math:`U`, (n, 2) -> (n,); it needs radii > 0, such as cell centres.

    Raises
    ------
    ValueError
        If ``temperature`` is out of range.
    """
    _require_positive(temperature=temperature)

    def potential(radii: Array) -> Array:
        entropy = temperature * np.sum(np.log(radii), axis=-1)
        return np.asarray(loss_of_singular_values(singular_values(radii)) - entropy)

    return potential


def rayleigh(grid: Grid, std: float) -> Array:
    r"""Density of the :func:`rotation_radii` of a matrix of normal entries.

    .. math::
        \frac{1}{h} \int_{\text{cell}}
        \frac{r}{\sigma_0^2}\, e^{-r^2 / 2\sigma_0^2}\, dr
        \quad\text{per axis}

    are the exact cell averages for entries :math:`\sim N(0, \sigma_0^2)`. Source:
    derived in the chapter *Weight densities of a two-bottleneck autoencoder*.

    Parameters
    ----------
    grid
        Grid of the radii, all of it at radii >= 0; for a 2 × 2 matrix it has two axes.
    std
        Standard deviation :math:`\sigma_0 > 0` of each entry of the matrix.

    Returns
    -------
    array
        Density, shape ``grid.shape``, in 1 / volume; mass outside the grid is cut off.

    Raises
    ------
    ValueError
        If ``std`` is out of range or the grid has negative radii.
    """
    _require_positive(std=std)
    if any(edges[0] < 0 for edges in grid.edges):
        raise ValueError(f"grid must have no radii below 0, got {grid}")
    density = np.ones(())
    for edges in grid.edges:
        beyond = np.exp(-((edges / std) ** 2) / 2)
        density = np.multiply.outer(density, -np.diff(beyond) / np.diff(edges))
    return density


# --- one matrix at a time -----------------------------------------------------------


@dataclass(frozen=True)
class Moments:
    """Means and covariances of both matrices of a linear autoencoder in time.

    Attributes
    ----------
    mean1
        Mean of the first matrix at n times, shape (n, k, d).
    covariance1
        Covariance of its row-major entries, shape (n, kd, kd).
    mean2
        Mean of the second matrix, shape (n, d, k).
    covariance2
        Covariance of its row-major entries, shape (n, kd, kd).
    """

    mean1: Array
    covariance1: Array
    mean2: Array
    covariance2: Array


# Accuracy of the integration of the moments, relative and absolute.
MOMENT_TOLERANCE = 1e-10


def mean_field_moments(
    mean1: ArrayLike,
    covariance1: ArrayLike,
    mean2: ArrayLike,
    covariance2: ArrayLike,
    times: ArrayLike,
    temperature: float,
    data_covariance: ArrayLike = 1.0,
    weight_decay: float = 0.0,
    variant: Variant = "coupled",
) -> Moments:
    r"""Mean field of a linear autoencoder from normal densities: a closed system.

    The loss averaged over one matrix is quadratic in the other, so normal densities
    stay normal. With the means :math:`M_i` and the covariances :math:`V_i` of the
    row-major entries,

    .. math::
        \dot M_1 &= M_2^T S - \langle W_2^T W_2 \rangle M_1 S - \lambda M_1, \\
        \dot M_2 &= S M_1^T - M_2 \langle W_1 S W_1^T \rangle - \lambda M_2, \\
        \dot V_i &= -H_i V_i - V_i H_i + 2T, \\
        H_1 &= \langle W_2^T W_2 \rangle \otimes S + \lambda, \qquad
        H_2 = 1 \otimes \langle W_1 S W_1^T \rangle + \lambda .

    "coupled" averages over the density of the other matrix, :math:`\langle W_2^T W_2
    \rangle_{ab} = (M_2^T M_2)_{ab} + \sum_i \operatorname{Cov}(W_{2,ia}, W_{2,ib})`;
    "frozen" puts the other matrix on its noiseless path, gradient flow from the initial
    means, :math:`\langle W_2^T W_2 \rangle = M_2^T M_2`.

    Source: derived in the chapter *Weight densities of a two-bottleneck autoencoder*.

    Parameters
    ----------
    mean1, mean2
        Initial means, shapes (k, d) and (d, k); numbers for A1.
    covariance1, covariance2
        Initial covariances of the row-major entries, (kd, kd); a number stands for that
        number times the identity.
    times
        Times >= 0, increasing, shape (n,).
    temperature
        :math:`T \ge 0`.
    data_covariance
        :math:`S`, shape (d, d); a number for A1.
    weight_decay
        :math:`\lambda \ge 0`.
    variant
        "coupled" or "frozen".

    Returns
    -------
    Moments
        Means and covariances at all times, to a relative accuracy of about 1e-9.

    Raises
    ------
    ValueError
        If an argument is out of range or has the wrong shape.
    FloatingPointError
        If the integration fails.
    """
    S = _covariance("data_covariance", data_covariance)
    first, second = _matrix(mean1), _matrix(mean2)
    if first.ndim != 2 or first.shape[1] != len(S):
        raise ValueError(
            f"mean1 must have shape (k, {len(S)}) as the data_covariance asks, got "
            f"{first.shape}"
        )
    _require_partner("mean2", second, first.shape)
    for name, mean in (("mean1", first), ("mean2", second)):
        if not np.all(np.isfinite(mean)):
            raise ValueError(f"{name} must be finite, got {mean.tolist()}")
    size = first.size
    spreads = [
        _covariance("covariance1", covariance1, size),
        _covariance("covariance2", covariance2, size),
    ]
    t = _times(times)
    _require_non_negative(temperature=temperature, weight_decay=weight_decay)
    if variant not in get_args(Variant):
        raise ValueError(f"variant must be one of {get_args(Variant)}, got {variant!r}")
    k, d = first.shape
    felt = 1.0 if variant == "coupled" else 0.0

    def unpack(y: Array) -> tuple[Array, Array, Array, Array]:
        M1, M2, V1, V2 = np.split(y, [size, 2 * size, 2 * size + size**2])
        return (
            M1.reshape(k, d),
            M2.reshape(d, k),
            V1.reshape(size, size),
            V2.reshape(size, size),
        )

    def velocity(time: float, y: Array) -> Array:
        M1, M2, V1, V2 = unpack(y)
        decoder = _decoder_moment(M2, felt * V2)
        encoder = _encoder_moment(M1, felt * V1, S)
        H1 = np.kron(decoder, S) + weight_decay * np.eye(size)
        H2 = np.kron(np.eye(d), encoder) + weight_decay * np.eye(size)
        drift1 = M2.T @ S - decoder @ M1 @ S - weight_decay * M1
        drift2 = S @ M1.T - M2 @ encoder - weight_decay * M2
        spreading = [
            2 * temperature * np.eye(size) - H @ V - V @ H
            for H, V in ((H1, V1), (H2, V2))
        ]
        change = np.concatenate([x.ravel() for x in (drift1, drift2, *spreading)])
        # The integrator would look for a step that helps, for ever.
        if not np.all(np.isfinite(change)):
            raise FloatingPointError(f"the moments are too large at time {time:g}")
        return change

    start = np.concatenate([x.ravel() for x in (first, second, *spreads)])
    with np.errstate(all="ignore"):
        solution = solve_ivp(
            velocity,
            (0.0, t[-1] or 1.0),  # an empty span would return nothing
            start,
            method="LSODA",
            t_eval=t,
            rtol=MOMENT_TOLERANCE,
            atol=MOMENT_TOLERANCE,
        )
    if not solution.success or not np.all(np.isfinite(solution.y)):
        raise FloatingPointError(
            f"the moments could not be integrated to time {t[-1]:g}"
        )
    M1, M2, V1, V2 = zip(*map(unpack, solution.y.T), strict=True)
    return Moments(np.array(M1), np.array(V1), np.array(M2), np.array(V2))


def _decoder_moment(mean: Array, covariance: Array) -> Array:
    """Mean of ``W2^T W2``, (k, k), for the row-major covariance of ``W2``."""
    d, k = mean.shape
    blocks = covariance.reshape(d, k, d, k)
    return np.asarray(mean.T @ mean + np.einsum("iaib->ab", blocks))


def _encoder_moment(mean: Array, covariance: Array, S: Array) -> Array:
    """Mean of ``W1 S W1^T``, (k, k), for the row-major covariance of ``W1``."""
    k, d = mean.shape
    blocks = covariance.reshape(k, d, k, d)
    return np.asarray(mean @ S @ mean.T + np.einsum("aibj,ij->ab", blocks, S))


def mean_field(
    density1: ArrayLike,
    grid1: Grid,
    density2: ArrayLike,
    grid2: Grid,
    times: ArrayLike,
    temperature: float,
    data_covariance: ArrayLike = 1.0,
    weight_decay: float = 0.0,
    coupling_step: float = 0.02,
) -> tuple[Array, Array]:
    r"""Mean field of a linear autoencoder from densities of any shape.

    .. math::
        \partial_t p_i = \nabla \cdot (p_i \nabla L_i) + T \nabla^2 p_i, \qquad
        L_1(W_1) = \int L(W_1, W_2)\, p_2(W_2)\, dW_2, \qquad
        L_2(W_2) = \int L(W_1, W_2)\, p_1(W_1)\, dW_1,

    on two grids that feel each other through :math:`\langle W_2 \rangle`,
    :math:`\langle W_2^T W_2 \rangle`, :math:`\langle W_1 \rangle` and
    :math:`\langle W_1 S W_1^T \rangle` alone. In one coupling step :math:`p_2` moves
    half a step in the field of the old :math:`p_1`, :math:`p_1` a step in the field of
    the new :math:`p_2`, and :math:`p_2` the second half in the field of the new
    :math:`p_1`: symmetric, so that errors are of second order in ``coupling_step``.
    Each move is one step of Crank-Nicolson, in the first two coupling steps two half
    steps of implicit Euler. Source: derived in the chapter *Weight densities of a
    two-bottleneck autoencoder*.

    Parameters
    ----------
    density1, density2
        Start: densities of the row-major entries of :math:`W_1` and :math:`W_2`, cell
        averages on their grids, of mass 1 to within 1e-6.
    grid1, grid2
        Grids with an axis per entry of a matrix: one for A1, two for A2. More are too
        many for a sparse factorisation at every step.
    times
        Times >= 0, increasing, shape (n,).
    temperature
        :math:`T > 0`.
    data_covariance
        :math:`S`, shape (d, d); a number for A1.
    weight_decay
        :math:`\lambda \ge 0`.
    coupling_step
        Longest step in time, > 0; shortened to meet ``times``.

    Returns
    -------
    tuple
        Densities of both matrices, shapes (n, \*grid1.shape) and (n, \*grid2.shape).

    Raises
    ------
    ValueError
        If an argument is out of range or has the wrong shape.

    Warns
    -----
    NegativeDensityWarning
        If more than 1e-6 of the mass is below zero: ``coupling_step`` is too long.
    MassAtWallWarning
        If more than 1e-6 of the mass of a matrix is in the cells at its walls.
    """
    S = _covariance("data_covariance", data_covariance)
    d, axes = len(S), len(grid1.shape)
    if axes > 2 or axes % d:
        raise ValueError(
            f"grid1 must have 1 or 2 axes, a multiple of the size {d} of the "
            f"data_covariance, got {axes}"
        )
    if len(grid2.shape) != axes:
        raise ValueError(
            f"grid2 must have as many axes as grid1 ({axes}), got {len(grid2.shape)}"
        )
    p1 = _density("density1", density1, grid1)
    p2 = _density("density2", density2, grid2)
    t = _times(times)
    _require_positive(temperature=temperature, coupling_step=coupling_step)
    _require_non_negative(weight_decay=weight_decay)
    shape1, shape2 = (axes // d, d), (d, axes // d)

    def loss_of_first(p2: Array) -> Field:
        mean, covariance = _matrix_moments(p2, grid2, shape2)
        decoder = _decoder_moment(mean, covariance)

        def average(points: Array) -> Array:
            W1 = points.reshape(-1, *shape1)
            loss = np.sum(((decoder @ W1 / 2 - mean.T) @ S) * W1, axis=(1, 2))
            return np.asarray(loss + weight_decay * np.sum(points**2, axis=1) / 2)

        return average

    def loss_of_second(p1: Array) -> Field:
        mean, covariance = _matrix_moments(p1, grid1, shape1)
        encoder = _encoder_moment(mean, covariance, S)

        def average(points: Array) -> Array:
            W2 = points.reshape(-1, *shape2)
            loss = np.sum((W2 @ encoder / 2 - S @ mean.T) * W2, axis=(1, 2))
            return np.asarray(loss + weight_decay * np.sum(points**2, axis=1) / 2)

        return average

    def step(grid: Grid, loss: Field, dt: float) -> Step:
        return lu_step(FokkerPlanck(grid, temperature, potential=loss).generator, dt)

    densities1, densities2 = [], []
    steps_done = 0
    with progress.bar(float(t[-1]), "mean field") as bar:
        for begin, end in pairwise([0.0, *t]):
            steps = int(np.ceil((end - begin) / coupling_step * (1 - ROUNDING)))
            dt = (end - begin) / max(steps, 1)
            move2 = step(grid2, loss_of_second(p1), dt / 2)
            for _ in range(steps):
                smooth = steps_done < SMOOTHING_STEPS
                p2 = move2(p2, smooth)
                move1 = step(grid1, loss_of_first(p2), dt)
                p1 = move1(p1, smooth)
                move2 = step(grid2, loss_of_second(p1), dt / 2)
                p2 = move2(p2, smooth)
                steps_done += 1
                bar.update(dt)
            for name, density, grid in (("first", p1, grid1), ("second", p2, grid2)):
                _warn(name, density, grid, end)
            densities1.append(p1)
            densities2.append(p2)
    return np.array(densities1), np.array(densities2)


def _density(name: str, values: ArrayLike, grid: Grid) -> Array:
    density = _on(grid, name, values)
    mass = density.sum() * grid.cell_volume
    below = -np.minimum(density, 0).sum() * grid.cell_volume
    if below > NORMALISATION or abs(mass - 1) > NORMALISATION:
        raise ValueError(
            f"{name} must be >= 0 and have mass 1, both within {NORMALISATION:g}, got "
            f"mass {mass:.8g} and {below:.2g} below 0"
        )
    return density


def _on(grid: Grid, name: str, values: ArrayLike) -> Array:
    density = np.asarray(values, dtype=float)
    if density.shape != grid.shape or not np.all(np.isfinite(density)):
        raise ValueError(
            f"{name} must be finite and have the shape {grid.shape} of the "
            f"grid, got shape {density.shape}"
        )
    return density


def _matrix_moments(
    density: Array, grid: Grid, shape: tuple[int, int]
) -> tuple[Array, Array]:
    """Mean, of the given shape, and covariance of row-major entries."""
    points, mass = grid.points, density.ravel() * grid.cell_volume
    mean = mass @ points
    centered = points - mean
    return mean.reshape(shape), np.asarray((mass[:, None] * centered).T @ centered)


def _warn(name: str, density: Array, grid: Grid, time: float) -> None:
    below = -np.minimum(density, 0).sum() * grid.cell_volume
    if below > NORMALISATION:
        warnings.warn(
            f"a mass of {below:.2g} of the {name} matrix is below zero at time "
            f"{time:g}; a shorter coupling_step avoids it",
            NegativeDensityWarning,
            stacklevel=3,
        )
    inside = density[(slice(1, -1),) * density.ndim]
    at_wall = (density.sum() - inside.sum()) * grid.cell_volume
    if at_wall > WALL_MASS:
        warnings.warn(
            f"{at_wall:.2g} of the mass of the {name} matrix is in the cells at the "
            f"walls at time {time:g}; a larger box avoids it",
            MassAtWallWarning,
            stacklevel=3,
        )


# --- comparing densities ------------------------------------------------------------


def total_variation(p: ArrayLike, q: ArrayLike, grid: Grid) -> float:
    r"""Total variation distance of two densities on the same grid.

    .. math:: \mathrm{TV} = \tfrac12 \int |p - q|\, dw

    Largest difference of the probabilities that the two give to an event. Source:
    derived in the chapter *Weight densities of a two-bottleneck autoencoder*.

    Parameters
    ----------
    p, q
        Densities, cell averages, shape ``grid.shape``.
    grid
        The cells.

    Returns
    -------
    float
        Distance, from 0 to 1 for densities of mass 1.

    Raises
    ------
    ValueError
        If a density is not finite or does not fit the grid.
    """
    difference = _on(grid, "p", p) - _on(grid, "q", q)
    return float(np.abs(difference).sum() * grid.cell_volume / 2)


def mutual_information(joint: ArrayLike, grid: Grid) -> float:
    r"""Mutual information of the two weights of a joint density.

    .. math::
        I = \int p(w_1, w_2) \log \frac{p(w_1, w_2)}{p_1(w_1)\, p_2(w_2)}\, dw

    This is the Kullback-Leibler distance to the product of the marginals, the closest
    of all products, and hence the least that any mean field must lose. A normal density
    with correlation :math:`\rho` has :math:`-\tfrac12 \log(1 - \rho^2)`; for A1 at
    low temperature, :math:`\rho` is that of the inverse Hessian at the minimum. Cells
    where rounding made the density negative are left out of the sums of logarithms.
    Source: derived in the chapter *Weight densities of a two-bottleneck autoencoder*.

    Parameters
    ----------
    joint
        Density, cell averages, of mass 1 to within 1e-6, shape ``grid.shape``.
    grid
        Grid of two dimensions.

    Returns
    -------
    float
        Mutual information in nats, >= 0.

    Raises
    ------
    ValueError
        If the grid is not two-dimensional or the density does not fit it.
    """
    _require_two_dimensions(grid)
    density = _density("joint", joint, grid)
    h1, h2 = (edges[1] - edges[0] for edges in grid.edges)
    p1, p2 = density.sum(axis=1) * h2, density.sum(axis=0) * h1
    entropies = [
        special.entr(np.maximum(p, 0)).sum() * volume
        for p, volume in ((p1, h1), (p2, h2), (density, h1 * h2))
    ]
    return float(entropies[0] + entropies[1] - entropies[2])


def _require_two_dimensions(grid: Grid) -> None:
    if len(grid.shape) != 2:
        raise ValueError(f"grid must have 2 dimensions, got {len(grid.shape)}")


def output_density(
    joint: ArrayLike, grid: Grid, edges: ArrayLike, data_scale: float = 1.0
) -> Array:
    r"""Density of the output of linear A1 networks with random weights and data.

    The output is :math:`z = u x` with :math:`u = w_1 w_2` and :math:`x \sim N(0, s^2)`
    drawn afresh for each network, so that

    .. math::
        P(z \le a) = \int p(w_1, w_2)\, \Phi\Bigl(\frac{a}{|w_1 w_2|\, s}\Bigr)\, dw

    with the normal distribution function :math:`\Phi`. Its differences over the bins
    are smooth in the weights, unlike the density, which is infinite at :math:`z = 0`
    where networks of output zero are. The weights are those of the cell centres.
    Source: derived in the chapter *Weight densities of a two-bottleneck autoencoder*.

    Parameters
    ----------
    joint
        Density of :math:`(w_1, w_2)`, cell averages, of mass 1 to within 1e-6, shape
        ``grid.shape``.
    grid
        Grid of two dimensions.
    edges
        Edges of the bins of :math:`z`, increasing, shape (n + 1,).
    data_scale
        Standard deviation :math:`s > 0` of the data.

    Returns
    -------
    array
        Bin averages of the density of :math:`z`, shape (n,); times the widths of the
        bins they are the probabilities, which miss what lies beyond the edges.

    Raises
    ------
    ValueError
        If an argument is out of range or has the wrong shape.
    """
    _require_two_dimensions(grid)
    density = _density("joint", joint, grid)
    _require_positive(data_scale=data_scale)
    z = np.asarray(edges, dtype=float)
    if (
        z.ndim != 1
        or z.size < 2
        or not (np.all(np.isfinite(z)) and np.all(z[1:] > z[:-1]))
    ):
        raise ValueError(
            f"edges must be finite and increasing, shape (n + 1,), got {edges!r}"
        )
    w1, w2 = grid.centers
    distribution = np.zeros(z.size)
    for first, row in zip(w1, density, strict=True):
        scale = np.maximum(np.abs(first * w2) * data_scale, SMALLEST_OUTPUT)
        distribution += row @ special.ndtr(z / scale[:, None])
    return np.asarray(np.diff(distribution) * grid.cell_volume / np.diff(z))


# Scale of an output that stands for zero: any edge but 0 itself is far beyond it.
SMALLEST_OUTPUT = 1e-150
