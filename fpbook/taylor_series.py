r"""Truncated Taylor series with tensors for coefficients, and activations of them.

A series :math:`u(s) = \sum_k u_k s^k` is a tensor whose leading axis is the order,
shape (order + 1, ...). Functions that obey a differential equation,
:math:`y' = G(y, u)\, u'`, are composed with a series by the recurrence

.. math:: k\, y_k = \sum_{i=1}^{k} i\, u_i\, G_{k-i} ,

which costs :math:`O(\text{order}^2)` products and no symbolic derivative. Source:
Griewank and Walther (2008), chapter 13.
"""

import math

import torch
from torch import Tensor


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """Product of two series of one order, truncated to that order.

    Parameters
    ----------
    a, b
        Series, shapes (order + 1, ...) that broadcast; NaN stays NaN.

    Returns
    -------
    Tensor
        Series, shape (order + 1, ...).

    Raises
    ------
    ValueError
        If one is no real tensor or has no terms, or orders or shapes do not fit.
    """
    _require_series(a=a, b=b)
    if len(a) != len(b):
        raise ValueError(
            f"a and b must be of one order, got {len(a)} and {len(b)} terms"
        )
    try:
        torch.broadcast_shapes(a.shape, b.shape)
    except RuntimeError as problem:
        raise ValueError(
            f"a and b must have shapes that fit, got {tuple(a.shape)} and "
            f"{tuple(b.shape)}"
        ) from problem
    return torch.stack(
        [_sum([a[i] * b[k - i] for i in range(k + 1)]) for k in range(len(a))]
    )


def _require_series(**series: Tensor) -> None:
    for name, terms in series.items():
        if not isinstance(terms, Tensor) or not terms.is_floating_point():
            kind = getattr(terms, "dtype", type(terms).__name__)
            raise ValueError(f"{name} must be a real tensor, got {kind}")
        if not terms.dim() or not terms.numel():
            raise ValueError(
                f"{name} must have shape (order + 1, ...), got {tuple(terms.shape)}"
            )


def _sum(terms: list[Tensor]) -> Tensor:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _integrate(u: Tensor, slopes: list[Tensor], k: int) -> Tensor:
    """Coefficient ``y_k`` from the slopes ``G_0 .. G_{k-1}``."""
    return _sum([i * u[i] * slopes[k - i] for i in range(1, k + 1)]) / k


def exponential(u: Tensor) -> Tensor:
    r""":math:`e^{u(s)}`; its slope is the series itself.

    Parameters
    ----------
    u
        A series, shape (order + 1, ...); NaN stays NaN.

    Returns
    -------
    Tensor
        Series, of the shape of ``u``.

    Raises
    ------
    ValueError
        If ``u`` is no real tensor or has no terms.
    """
    _require_series(u=u)
    y = [torch.exp(u[0])]
    for k in range(1, len(u)):
        y.append(_integrate(u, y, k))
    return torch.stack(y)


def error_function(u: Tensor) -> Tensor:
    r"""The error function of :math:`u(s)`; its slope is :math:`2 e^{-u^2}/\sqrt\pi`.

    Parameters
    ----------
    u
        A series, shape (order + 1, ...); NaN stays NaN.

    Returns
    -------
    Tensor
        Series, of the shape of ``u``.

    Raises
    ------
    ValueError
        If ``u`` is no real tensor or has no terms.
    """
    _require_series(u=u)
    slopes = list(2 / math.sqrt(math.pi) * exponential(-multiply(u, u)))
    y = [torch.special.erf(u[0])]
    y += [_integrate(u, slopes, k) for k in range(1, len(u))]
    return torch.stack(y)


def hyperbolic_tangent(u: Tensor) -> Tensor:
    r""":math:`\tanh u(s)`; its slope is :math:`1 - \tanh^2 u`.

    Parameters
    ----------
    u
        A series, shape (order + 1, ...); NaN stays NaN.

    Returns
    -------
    Tensor
        Series, of the shape of ``u``.

    Raises
    ------
    ValueError
        If ``u`` is no real tensor or has no terms.
    """
    _require_series(u=u)
    y = [torch.tanh(u[0])]
    slopes = [1 - y[0] ** 2]
    for k in range(1, len(u)):
        y.append(_integrate(u, slopes, k))
        slopes.append(-_sum([y[i] * y[k - i] for i in range(k + 1)]))
    return torch.stack(y)


def gaussian_linear_unit(u: Tensor) -> Tensor:
    r""":math:`u \Phi(u)` (GELU) with the normal distribution function :math:`\Phi`.

    Parameters
    ----------
    u
        A series, shape (order + 1, ...); NaN stays NaN.

    Returns
    -------
    Tensor
        Series, of the shape of ``u``.

    Raises
    ------
    ValueError
        If ``u`` is no real tensor or has no terms.
    """
    _require_series(u=u)
    distribution = error_function(u / math.sqrt(2)) / 2
    distribution[0] += 0.5
    return multiply(u, distribution)


def rectifier(u: Tensor) -> Tensor:
    """ReLU within the linear piece that holds ``u(0)``; the series misses the kink.

    Parameters
    ----------
    u
        A series, shape (order + 1, ...); NaN stays NaN.

    Returns
    -------
    Tensor
        Series, of the shape of ``u``.

    Raises
    ------
    ValueError
        If ``u`` is no real tensor or has no terms.
    """
    _require_series(u=u)
    return u * (u[0] > 0)


COMPOSITIONS = {
    "erf": error_function,
    "tanh": hyperbolic_tangent,
    "gelu": gaussian_linear_unit,
    "relu": rectifier,
}
"""Composition with a series, by the names of :data:`fpbook.networks.ACTIVATIONS`."""
