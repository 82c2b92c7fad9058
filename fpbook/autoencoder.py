r"""Tiny autoencoders: losses, gradients, gradient noise, and densities known exactly.

**A1** has two weights, :math:`\hat x = w_2\, \phi(w_1 x)`, and learns to return a
:math:`x \sim N(0, s^2)` from the noisy target :math:`y = x + \sigma \xi`,
:math:`\xi \sim N(0, 1)`. Without the constant :math:`\sigma^2 / 2`,

.. math::
    L(w) = \tfrac12\, E\,(\hat x - x)^2 + \tfrac{\lambda}{2} |w|^2, \qquad
    \text{linear:}\quad L = \tfrac{s^2}{2} (1 - u)^2 + \tfrac{\lambda}{2} |w|^2
    \quad\text{with}\quad u = w_1 w_2 .

**A2** is :math:`k = 1`, :math:`d = 2` of the linear autoencoder :math:`\hat x = W_2 W_1
x` with a bottleneck of :math:`k` units and data :math:`x \sim N(0, S)`,

.. math::
    L = \tfrac12 \operatorname{tr}\bigl[R\, S\, R^T\bigr]
        + \tfrac{\lambda}{2} \bigl(|W_1|^2 + |W_2|^2\bigr), \qquad R = 1 - W_2 W_1 ;

the linear A1 is :math:`k = d = 1`. Vectors of weights are row-major: first the rows of
:math:`W_1`, (k, d), then those of :math:`W_2`, (d, k).

Conventions: :math:`C(w)` is the covariance of the gradient of *one* sample. Stochastic
gradient descent (SGD) with learning rate :math:`\eta` and batches of :math:`B` samples
is, to leading order in :math:`\eta`, the Ito equation
:math:`dw = -\nabla L\, dt + \sqrt{2 D(w)}\, dB` with :math:`D = \eta C / (2B)` and
training time :math:`t` = learning rate × step; a temperature :math:`T` stands for
:math:`D = T` times the identity. :math:`\lambda` is ``weight_decay`` in signatures; it
is part of :math:`L` and of its gradient and makes no noise.

Source: derived in the chapters *From SGD to Fokker-Planck* (A1) and *Weight densities
of a two-bottleneck autoencoder* (A2).
"""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from fpbook.finite_volumes import Grid
from fpbook.validation import (
    require_array,
    require_callable,
    require_choice,
    require_covariance,
    require_factors,
    require_matrix,
    require_non_negative,
    require_positive,
    require_real,
    require_returned,
    require_symmetric,
    require_times,
    require_type,
)

Array = NDArray[np.float64]
Field = Callable[[Array], Array]
Activation = Literal["linear", "erf", "tanh"]


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
        Weights of one or many networks, shape (..., 2); column 0 is :math:`w_1`. Where
        they are not finite, neither is the result.
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
    weights = _weights(w, activation, data_scale)
    require_non_negative(weight_decay=weight_decay)
    w1, w2 = weights[..., 0], weights[..., 1]
    if activation == "linear":
        loss = data_scale**2 * (1 - w1 * w2) ** 2 / 2
    elif activation == "erf":
        _, signal, power = _erf_averages(w1, data_scale)
        loss = data_scale**2 / 2 - w2 * signal + w2**2 * power / 2
    else:
        loss = _average(lambda e, _: e**2 / 2, weights, activation, data_scale)
    return np.asarray(loss + weight_decay * np.sum(weights**2, axis=-1) / 2)


def _weights(w: ArrayLike, activation: str, data_scale: float = 1.0) -> Array:
    require_choice(get_args(Activation), activation=activation)
    require_positive(data_scale=data_scale)
    weights = require_real("w", w)
    if weights.ndim == 0 or weights.shape[-1] != 2:
        raise ValueError(
            f"w must have shape (..., 2), columns w1 and w2, got {weights.shape}"
        )
    return weights


def _erf_averages(w1: Array, data_scale: float) -> tuple[Array, Array, Array]:
    """``a``, ``E x phi`` and ``E phi^2`` of the error function."""
    a = 1 + 2 * (w1 * data_scale) ** 2
    signal = 2 * w1 * data_scale**2 / np.sqrt(np.pi * a)
    return a, signal, 2 / np.pi * np.arcsin((a - 1) / a)


# Trapezoidal rule for averages of even functions over x ~ N(0, 1), in log x: only there
# do the poles of tanh(w1 x) stay as far from the real axis whatever w1 is. The step
# makes errors of 2e-14; below exp(-20) nothing counts unless |w1| exceeds 1e3.
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

    For n networks and m nodes the error x - x_hat is (n, m), the jacobian of x_hat
    (2, n, m), the integrand (..., n, m). Returns the shape of ``w`` without its last
    axis, then the leading axes of the integrand.
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
    weights = _weights(w, activation, data_scale)
    require_non_negative(weight_decay=weight_decay)
    w1, w2 = weights[..., 0], weights[..., 1]
    gradient: Array
    if activation == "linear":
        gradient = -(data_scale**2) * (1 - w1 * w2)[..., None] * weights[..., ::-1]
    elif activation == "erf":
        a, signal, power = _erf_averages(w1, data_scale)
        signal_slope = 2 * data_scale**2 / np.sqrt(np.pi * a**3)
        power_slope = 8 * w1 * data_scale**2 / (np.pi * a * np.sqrt(2 * a - 1))
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
    weights = _weights(w, activation, data_scale)
    require_non_negative(label_noise=label_noise)
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
    weights, samples = _weights(w, activation), require_real("batch", batch)
    require_non_negative(weight_decay=weight_decay)
    if weights.ndim != 2:
        raise ValueError(f"w must have shape (n, 2), got {weights.shape}")
    if samples.ndim != 3 or samples.shape[::2] != weights.shape or not samples.shape[1]:
        raise ValueError(
            f"batch must have shape (n, B, 2) with n = {len(weights)} as in w and "
            f"B >= 1, got {samples.shape}"
        )
    require_array("batch", samples)
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

    Balanced weights stay balanced, and without decay gradient flow conserves :math:`q`.
    Source: derived in the chapter *From SGD to Fokker-Planck*; Ziyin, Li and Ueda
    (arXiv 2308.06671) state the law for the stochastic differential equation.

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
    require_positive(learning_rate=learning_rate)
    require_non_negative(weight_decay=weight_decay)
    growth = (1 - learning_rate * weight_decay) ** 2
    turn = learning_rate * require_array("residual", residual)
    balance = require_array("difference", difference)
    if not _broadcast(turn.shape, balance.shape):
        raise ValueError(
            "residual and difference must have shapes that fit each other, got "
            f"{turn.shape} and {balance.shape}"
        )
    return np.asarray((growth - turn**2) * balance)


def _broadcast(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    lengths = zip(reversed(first), reversed(second), strict=False)
    return all(m == n or 1 in (m, n) for m, n in lengths)


# --- A2: two matrices ---------------------------------------------------------------


def matrix_loss(
    W1: ArrayLike, W2: ArrayLike, covariance: ArrayLike, weight_decay: float = 0.0
) -> Array:
    r"""Loss of the linear autoencoder :math:`\hat x = W_2 W_1 x`.

    .. math::
        L = \tfrac12 \operatorname{tr}\bigl[R\, S\, R^T\bigr]
            + \tfrac{\lambda}{2} \bigl(|W_1|^2 + |W_2|^2\bigr), \qquad R = 1 - W_2 W_1

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
    require_non_negative(weight_decay=weight_decay)
    residual = np.eye(len(S)) - second @ first
    decay = np.sum(first**2, axis=(-2, -1)) + np.sum(second**2, axis=(-2, -1))
    fit = np.sum((residual @ S) * residual, axis=(-2, -1))
    return np.asarray(fit / 2 + weight_decay * decay / 2)


def _matrices(
    W1: ArrayLike, W2: ArrayLike, covariance: ArrayLike
) -> tuple[Array, Array, Array]:
    S = require_covariance("covariance", covariance)
    return *require_factors(len(S), W1=W1, W2=W2), S


def matrix_gradient(
    W1: ArrayLike, W2: ArrayLike, covariance: ArrayLike, weight_decay: float = 0.0
) -> tuple[Array, Array]:
    r"""Gradient of :func:`matrix_loss` by both matrices.

    .. math::
        G_1 = -W_2^T R S + \lambda W_1, \qquad G_2 = -R S W_1^T + \lambda W_2

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
    require_non_negative(weight_decay=weight_decay)
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

    with :math:`\circ` entry by entry. Source: derived in the chapter *Weight densities
    of a two-bottleneck autoencoder*.

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
    require_non_negative(label_noise=label_noise)
    *networks, k, d = first.shape
    unit = np.broadcast_to(np.eye(d), (*networks, d, d))
    n = np.concatenate(
        [np.repeat(_transposed(second), d, axis=-2), np.repeat(unit, k, axis=-2)],
        axis=-2,
    )
    v = np.concatenate([np.tile(unit, (k, 1)), np.tile(first, (d, 1))], axis=-2)
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
    second, S = require_matrix("W2", W2), require_covariance("covariance", covariance)
    require_non_negative(weight_decay=weight_decay)
    if len(second) != len(S) or not second.size:
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
    H = require_symmetric("hessian", hessian)
    size = len(H)
    D = require_covariance("diffusion", diffusion, size)
    V0 = require_covariance("covariance0", covariance0, size)
    center, start = _vector("minimum", minimum, size), _vector("mean0", mean0, size)
    t = require_times(times)
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
    vector = np.atleast_1d(require_real(name, values))
    if vector.shape != (size,) or not np.all(np.isfinite(vector)):
        raise ValueError(
            f"{name} must be finite and of shape ({size},), got {values!r}"
        )
    return vector


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
        If ``W`` has the wrong shape or is not finite.
    """
    matrices = require_array("W", W, ("...", 2, 2))
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
        If ``radii`` has the wrong shape, or an entry that is negative or not finite.
    """
    pairs = require_array("radii", radii)
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
        For tied weights, :math:`L = \tfrac12 |1 - W^T W|^2`, it is
        :math:`\tfrac12 \sum_i (1 - \sigma_i^2)^2`.
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
    TypeError
        If the loss is no function.
    """
    require_callable(loss_of_singular_values=loss_of_singular_values)
    require_positive(temperature=temperature)

    def potential(radii: Array) -> Array:
        entropy = temperature * np.sum(np.log(radii), axis=-1)
        loss = loss_of_singular_values(singular_values(radii))
        return np.asarray(
            require_returned("loss_of_singular_values", loss, entropy.shape) - entropy
        )

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
    TypeError
        If ``grid`` is no grid.
    """
    require_type(Grid, grid=grid)
    require_positive(std=std)
    if any(edges[0] < 0 for edges in grid.edges):
        raise ValueError(f"grid must have no radii below 0, got {grid}")
    density = np.ones(())
    for edges in grid.edges:
        beyond = np.exp(-((edges / std) ** 2) / 2)
        density = np.multiply.outer(density, -np.diff(beyond) / np.diff(edges))
    return density
