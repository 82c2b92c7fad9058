"""Taylor coefficients of outputs along a gradient step: derivative correlations."""

import math
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import jvp, vjp

from benchmarks.cases.networks import (
    arrays_of,
    network_of,
    outputs_of,
    points_of,
    weights_of,
)
from benchmarks.harness import Case, Peer, Run
from benchmarks.remote import Elsewhere
from fpbook.weak_correlations import taylor_coefficients

Array = NDArray[np.float64]

ORDER, TRAIN = 3, 6


def _points() -> tuple[Tensor, Tensor, Tensor]:
    """Inputs to train on and to look at, and the residual of the former."""
    train, look = points_of(2 * TRAIN).split(TRAIN)
    return train, look, torch.cos(torch.arange(TRAIN, dtype=torch.float64))


def _coefficients(width: int) -> Run:
    network, (train, look, r) = network_of(width), _points()
    args = (network, network.params, train, r, look, ORDER)
    return lambda: taylor_coefficients(*args)


def _backward_coefficients(width: int) -> Run:
    """Differentiate along the direction by backward mode, order by order."""
    network, (train, look, r) = network_of(width), _points()
    leaves = [t.requires_grad_() for pair in weights_of(network) for t in pair]
    pairs = list(zip(leaves[::2], leaves[1::2], strict=True))

    def run() -> Tensor:
        known = outputs_of(network, pairs, train, torch.tanh) @ r
        direction = torch.autograd.grad(known, leaves)
        values = outputs_of(network, pairs, look, torch.tanh)
        columns = []
        for value in values:
            found = [value.detach()]
            for k in range(1, ORDER + 1):
                slopes = torch.autograd.grad(
                    value, leaves, create_graph=True, materialize_grads=True
                )
                parts = zip(slopes, direction, strict=True)
                value = torch.stack([(a * b).sum() for a, b in parts]).sum()
                found.append(value.detach() / math.factorial(k))
            columns.append(torch.stack(found))
        return torch.stack(columns, dim=1)

    return run


def _nested_coefficients(width: int) -> Run:
    """All orders from one pass of nested forward mode."""
    network, (train, look, r) = network_of(width), _points()
    weights = weights_of(network)
    zero, one = (
        torch.zeros((), dtype=torch.float64),
        torch.ones((), dtype=torch.float64),
    )

    def outputs(weights: Any, x: Tensor) -> Tensor:
        found: Tensor = outputs_of(network, weights, x, torch.tanh)
        return found

    def run() -> Tensor:
        (direction,) = vjp(lambda w: outputs(w, train), weights)[1](r)

        def along(s: Tensor) -> tuple[Tensor, ...]:
            pairs = zip(weights, direction, strict=True)
            moved = [(w + s * v, b + s * c) for (w, b), (v, c) in pairs]
            return (outputs(moved, look),)

        derivatives: Any = along
        for _ in range(ORDER):
            derivatives = _with_the_next(derivatives, one)
        found: tuple[Tensor, ...] = derivatives(zero)
        return torch.stack([f / math.factorial(k) for k, f in enumerate(found)])

    return run


def _with_the_next(derivatives: Any, one: Tensor) -> Any:
    def longer(s: Tensor) -> tuple[Tensor, ...]:
        found: Any = jvp(derivatives, (s,), (one,))
        return (*found[0], found[1][-1])

    return longer


def _inputs(width: int) -> dict[str, Any]:
    train, look, r = (part.numpy() for part in _points())
    arrays = arrays_of(network_of(width))
    return {**arrays, "train": train, "look": look, "r": r, "order": ORDER}


CIRCLE, RADIUS = 48, 0.4
"""Points of Cauchy's integral, and its radius, within that of convergence."""


@cache
def _on_a_circle(width: int) -> Array:
    """Coefficients from the outputs at complex steps along the direction."""
    network, (train, look, r) = network_of(width), _points()
    theta = network.params.clone().requires_grad_()
    (slope,) = torch.autograd.grad(network(theta, train) @ r, theta)
    steps = RADIUS * np.exp(2j * np.pi * np.arange(CIRCLE) / CIRCLE)
    x, values = look.numpy(), []
    for s in steps:
        hidden = x.astype(complex)
        pairs = zip(network.layers(network.params), network.layers(slope), strict=True)
        for number, (here, there) in enumerate(pairs):
            hidden = np.tanh(hidden) if number else hidden
            # Real matrices, for complex ones would be copies.
            through = [
                hidden.real @ part.weight.numpy().T
                + 1j * (hidden.imag @ part.weight.numpy().T)
                for part in (here, there)
            ]
            bias = here.bias.numpy() + s * there.bias.numpy()
            hidden = here.weight_multiplier * (through[0] + s * through[1])
            hidden = hidden + here.bias_multiplier * bias
        values.append(hidden[:, 0])
    orders = np.fft.fft(np.array(values), axis=0)[: ORDER + 1].real / CIRCLE
    return np.asarray(orders / RADIUS ** np.arange(ORDER + 1)[:, None])


def _error(found: Any, width: int) -> float:
    """Largest of the orders' errors, each relative to the largest of its numbers."""
    exact = _on_a_circle(width)
    difference = np.abs(np.asarray(found) - exact).max(axis=1)
    return float((difference / np.abs(exact).max(axis=1)).max())


CASES = (
    Case(
        name="Taylor coefficients of a step",
        module="weak_correlations",
        kernel="taylor_coefficients",
        measures=(
            f"Orders up to {ORDER} of {TRAIN} outputs of a tanh network with two "
            f"hidden layers, along the gradient of {TRAIN} others."
        ),
        size_name="neurons per layer",
        sizes=(128, 256, 512, 1024, 2048),
        setup=_coefficients,
        exact="Cauchy's integral over complex steps",
        error_name="relative error",
        error=_error,
        tolerance=1e-9,
        reference=Peer("torch, backward mode", _backward_coefficients, "", 1024),
        peers=(
            Peer("torch.func, nested jvp", _nested_coefficients),
            Peer("jax, experimental.jet", Elsewhere("step_series", _inputs), "jax"),
        ),
    ),
)
