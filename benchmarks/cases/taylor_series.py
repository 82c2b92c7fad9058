"""Truncated Taylor series of an activation, of many numbers at once."""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import jvp

from benchmarks.harness import Case, Peer, Run
from benchmarks.remote import Elsewhere
from fpbook.taylor_series import error_function

Array = NDArray[np.float64]

NUMBERS, SEED = 4096, 0


def _arguments() -> tuple[Array, Array]:
    """Start and slope of arguments that are linear in s: u + s v."""
    rng = np.random.default_rng(SEED)
    return rng.uniform(-2, 2, NUMBERS), rng.uniform(0.5, 1, NUMBERS)


def _series(order: int) -> Run:
    series = torch.zeros(order + 1, NUMBERS, dtype=torch.float64)
    series[0], series[1] = (torch.from_numpy(part) for part in _arguments())
    return lambda: error_function(series)


def _plain_series(order: int) -> Run:
    """Differentiate once for each order, by backward mode."""
    u, v = (torch.from_numpy(part) for part in _arguments())

    def run() -> Tensor:
        s = torch.zeros(NUMBERS, dtype=torch.float64, requires_grad=True)
        value = torch.special.erf(u + s * v)
        found = [value.detach()]
        for k in range(1, order + 1):
            (value,) = torch.autograd.grad(value.sum(), s, create_graph=True)
            found.append(value.detach() / math.factorial(k))
        return torch.stack(found)

    return run


def _nested_series(order: int) -> Run:
    """Nest forward mode: all orders from one call, of 2^order passes."""
    u, v = (torch.from_numpy(part) for part in _arguments())
    zero, one = torch.zeros_like(u), torch.ones_like(u)

    def along(s: Tensor) -> tuple[Tensor, ...]:
        return (torch.special.erf(u + s * v),)

    derivatives: Any = along
    for _ in range(order):
        derivatives = _with_the_next(derivatives, one)

    def run() -> Tensor:
        found: tuple[Tensor, ...] = derivatives(zero)
        return torch.stack([f / math.factorial(k) for k, f in enumerate(found)])

    return run


def _with_the_next(derivatives: Any, one: Tensor) -> Any:
    def longer(s: Tensor) -> tuple[Tensor, ...]:
        found: Any = jvp(derivatives, (s,), (one,))
        return (*found[0], found[1][-1])

    return longer


def _inputs(order: int) -> dict[str, Any]:
    u, v = _arguments()
    return {"u": u, "v": v, "order": order}


def _error(found: Any, order: int) -> float:
    """Derivatives of the error function are Hermite polynomials times a Gaussian."""
    u, v = _arguments()
    polynomials = [np.ones_like(u), 2 * u]
    for k in range(1, order):
        polynomials.append(2 * u * polynomials[k] - 2 * k * polynomials[k - 1])
    gaussian = 2 / math.pi**0.5 * np.exp(-(u**2))
    worst = 0.0
    for k in range(1, order + 1):
        exact = (-1) ** (k - 1) * polynomials[k - 1] * gaussian
        exact *= v**k / math.factorial(k)
        difference = np.abs(np.asarray(found[k]) - exact).max()
        worst = max(worst, float(difference / np.abs(exact).max()))
    return worst


CASES = (
    Case(
        name="series of the error function",
        module="taylor_series",
        kernel="error_function",
        measures=f"Coefficients of erf(u + s v) for {NUMBERS} pairs u, v.",
        size_name="orders",
        sizes=(2, 4, 8, 16, 32),
        setup=_series,
        exact="Hermite polynomials times a Gaussian",
        error_name="largest error, relative to the largest of its order",
        error=_error,
        tolerance=1e-11,
        reference=Peer("torch, backward mode order by order", _plain_series, "", 8),
        peers=(
            Peer("torch.func, nested jvp", _nested_series, "", 8),
            Peer("jax, experimental.jet", Elsewhere("erf_series", _inputs), "jax", 8),
        ),
    ),
)
