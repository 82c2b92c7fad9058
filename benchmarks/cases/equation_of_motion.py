"""What gradient descent follows: the field, and the flow along it."""

import math
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from torch import Tensor

from benchmarks.harness import Case, Peer, Run
from benchmarks.remote import Elsewhere
from fpbook.equation_of_motion import (
    Loss,
    burst_field,
    equation_of_motion,
    modified_equation,
)

Array = NDArray[np.float64]

BATCH, INPUTS, OUTPUTS, SEED = 64, 16, 4, 0


def _shapes(width: int) -> list[tuple[int, ...]]:
    pairs = pairwise((INPUTS, width, width, OUTPUTS))
    return [shape for a, b in pairs for shape in ((a, b), (b,))]


def _data(width: int) -> dict[str, Array]:
    """Inputs, targets and parameters of a tanh network with two hidden layers."""
    rng = np.random.default_rng(SEED)
    parameters = [
        (rng.standard_normal(shape) / shape[0] ** 0.5).ravel()
        if len(shape) == 2
        else np.zeros(shape)
        for shape in _shapes(width)
    ]
    return {
        "inputs": rng.standard_normal((BATCH, INPUTS)),
        "targets": np.tanh(rng.standard_normal((BATCH, OUTPUTS))),
        "theta": np.concatenate(parameters),
    }


def _problem(width: int) -> tuple[Loss, Tensor]:
    data = {name: torch.from_numpy(array) for name, array in _data(width).items()}
    shapes = _shapes(width)
    sizes = [math.prod(shape) for shape in shapes]

    def loss(theta: Tensor) -> Tensor:
        parts = zip(theta.split(sizes), shapes, strict=True)
        pieces = [piece.view(shape) for piece, shape in parts]
        hidden = data["inputs"]
        for weight, bias in zip(pieces[:-2:2], pieces[1:-2:2], strict=True):
            hidden = torch.tanh(hidden @ weight + bias)
        miss = hidden @ pieces[-2] + pieces[-1] - data["targets"]
        value: Tensor = (miss**2).mean()
        return value

    return loss, data["theta"]


# --- counter terms ------------------------------------------------------------------

ORDER = 2


def _terms(width: int) -> Run:
    loss, theta = _problem(width)
    return lambda: modified_equation(loss, theta, ORDER)


def _nested_terms(width: int) -> Run:
    """Forward mode over backward mode, written out by hand."""
    loss, theta = _problem(width)

    def force(x: Tensor) -> Tensor:
        slope: Tensor = torch.func.grad(loss)(x)
        return -slope

    def along(function: Callable[[Tensor], Tensor], v: Tensor) -> Tensor:
        moved: Tensor = torch.func.jvp(function, (theta,), (v,))[1]
        return moved

    def run() -> Tensor:
        f = force(theta)
        b = along(force, f)
        c = along(force, b)
        d = along(lambda x: torch.func.jvp(force, (x,), (f,))[1], f)
        return torch.stack([f, -b / 2, c / 3 + d / 12])

    return run


def _shapes_of(width: int) -> dict[str, Any]:
    """Data for another environment, with the sizes of the layers."""
    return {**_data(width), "widths": [INPUTS, width, width, OUTPUTS]}


RATES = 0.04 * (1 - np.cos(np.pi * (np.arange(9) + 0.5) / 9))
"""Learning rates times the largest curvature, at Chebyshev's points."""


@cache
def _exact_terms(width: int) -> Array:
    """Fit a polynomial in the learning rate to fields of bursts of order 12.

    Their own error is of the order 13 in the learning rate.
    """
    loss, theta = _problem(width)
    unit = 1 / _largest_curvature(loss, theta)
    fields = [burst_field(loss, theta, float(x) * unit, 12).numpy() for x in RATES]
    powers = np.vander(RATES, len(RATES), increasing=True)
    terms = np.linalg.solve(powers, np.array(fields))[: ORDER + 1]
    return np.asarray(terms / unit ** np.arange(ORDER + 1)[:, None])


def _largest_curvature(loss: Loss, theta: Tensor) -> float:
    """Largest absolute eigenvalue of the Hessian, by the power method."""
    position = theta.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(position), position, create_graph=True)
    direction, size = slope.detach(), 0.0
    for _ in range(20):
        direction = direction / direction.norm()
        (direction,) = torch.autograd.grad(
            slope, position, direction, retain_graph=True
        )
        size = float(direction.norm())
    return size


def _error_of_terms(found: Any, width: int) -> float:
    """Largest of the terms' errors, each relative to its length."""
    exact = _exact_terms(width)
    missed = np.linalg.norm(np.asarray(found) - exact, axis=1)
    return float((missed / np.linalg.norm(exact, axis=1)).max())


# --- the flow -----------------------------------------------------------------------

RATE, STEPS = 0.1, 20


def _flow(width: int) -> Run:
    loss, theta = _problem(width)
    args = (loss, theta, RATE, STEPS, 0)
    return lambda: equation_of_motion(*args, rtol=1e-6, atol=1e-8)


def _solved(width: int, method: str, tolerance: float) -> Array:
    """Gradient flow with gradients by hand."""
    data, shapes = _data(width), _shapes(width)
    ends = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
    x, y = data["inputs"], data["targets"]

    def velocity(_: float, theta: Array) -> Array:
        pieces = zip(np.split(theta, ends), shapes, strict=True)
        W1, b1, W2, b2, W3, b3 = (piece.reshape(shape) for piece, shape in pieces)
        h1 = np.tanh(x @ W1 + b1)
        h2 = np.tanh(h1 @ W2 + b2)
        d3 = 2 * (y - h2 @ W3 - b3) / y.size
        d2 = d3 @ W3.T * (1 - h2**2)
        d1 = d2 @ W2.T * (1 - h1**2)
        slopes = (x.T @ d1, d1.sum(0), h1.T @ d2, d2.sum(0), h2.T @ d3, d3.sum(0))
        return np.concatenate([slope.ravel() for slope in slopes])

    times = RATE * np.arange(STEPS + 1)
    options = {"t_eval": times, "rtol": tolerance, "atol": tolerance / 100}
    span = (0, times[-1])
    return np.asarray(solve_ivp(velocity, span, data["theta"], method, **options).y.T)


def _plain_flow(width: int) -> Run:
    return lambda: _solved(width, "RK45", 1e-6)


def _torch_flow(width: int) -> Run:
    from torchdiffeq import odeint

    loss, theta = _problem(width)
    times = RATE * torch.arange(STEPS + 1, dtype=torch.float64)

    def velocity(_: Tensor, theta: Tensor) -> Tensor:
        with torch.enable_grad():
            position = theta.detach().requires_grad_()
            (slope,) = torch.autograd.grad(loss(position), position)
        return -slope

    def run() -> Tensor:
        with torch.no_grad():
            path: Tensor = odeint(
                velocity, theta, times, rtol=1e-6, atol=1e-8, method="dopri5"
            )
        return path

    return run


def _flow_inputs(width: int) -> dict[str, Any]:
    return {**_shapes_of(width), "times": RATE * np.arange(STEPS + 1)}


@cache
def _exact_flow(width: int) -> Array:
    return _solved(width, "DOP853", 1e-13)


def _error_of_flow(path: Any, width: int) -> float:
    """Largest distance on the way, in units of the distance that was gone."""
    exact = _exact_flow(width)
    missed = np.linalg.norm(np.asarray(path) - exact, axis=1).max()
    return float(missed / np.linalg.norm(exact[-1] - exact[0]))


CASES = (
    Case(
        name="counter terms",
        module="equation_of_motion",
        kernel="modified_equation",
        measures=f"Field and first {ORDER} counter terms, tanh, two hidden layers.",
        size_name="neurons per layer",
        sizes=(16, 32, 64, 128, 256, 512),
        setup=_terms,
        exact="polynomial in the learning rate through fields of long bursts",
        error_name="relative error",
        error=_error_of_terms,
        tolerance=1e-6,
        reference=Peer("torch.func, nested jvp", _nested_terms),
        peers=(Peer("jax, nested jvp", Elsewhere("counter_terms", _shapes_of), "jax"),),
    ),
    Case(
        name="gradient flow",
        module="equation_of_motion",
        kernel="equation_of_motion",
        measures=f"Flow without counter terms at {STEPS} times, two hidden layers.",
        size_name="neurons per layer",
        sizes=(16, 32, 64, 128, 256),
        setup=_flow,
        exact="DOP853 to 1e-13 with gradients by hand",
        error_name="error relative to the distance gone",
        error=_error_of_flow,
        tolerance=1e-5,
        reference=Peer("scipy, RK45 with gradients by hand", _plain_flow),
        peers=(
            Peer("torchdiffeq, dopri5", _torch_flow, "torchdiffeq"),
            Peer(
                "diffrax, Dopri8", Elsewhere("gradient_flow", _flow_inputs), "diffrax"
            ),
        ),
    ),
)
