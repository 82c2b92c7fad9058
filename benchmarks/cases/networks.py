"""Gradients of a network's outputs with respect to all of its parameters."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.harness import Case, Peer, Run
from benchmarks.remote import Elsewhere
from fpbook.networks import Network, jacobian, mlp

Array = NDArray[np.float64]
Weights = tuple[tuple[Tensor, Tensor], ...]

INPUTS, POINTS, SIGMA_B = 16, 16, 0.1


def network_of(width: int, activation: str = "tanh", depth: int = 2) -> Network:
    return mlp(width, depth, activation, INPUTS, seed=0, sigma_b=SIGMA_B)


def points_of(count: int = POINTS) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, INPUTS, generator=generator, dtype=torch.float64)


def weights_of(network: Network) -> Weights:
    """Weights and biases, layer by layer: torch is fastest with one tensor for each."""
    layers = network.layers(network.params)
    return tuple((layer.weight.clone(), layer.bias.clone()) for layer in layers)


def outputs_of(network: Network, weights: Any, x: Any, activation: Any) -> Any:
    """Outputs by the equations, for arrays or tensors of any kind."""
    layers = network.layers(network.params)
    hidden = x
    for number, ((weight, bias), layer) in enumerate(zip(weights, layers, strict=True)):
        hidden = activation(hidden) if number else hidden
        field = layer.weight_multiplier * (hidden @ weight.T)
        hidden = field + layer.bias_multiplier * bias
    return hidden[..., 0]


def arrays_of(network: Network) -> dict[str, Any]:
    """Give another environment what it needs to build the same network."""
    arrays: dict[str, Any] = {"sigma_w": network.sigma_w, "sigma_b": network.sigma_b}
    for number, (weight, bias) in enumerate(weights_of(network)):
        arrays[f"weight{number}"] = weight.numpy()
        arrays[f"bias{number}"] = bias.numpy()
    return arrays


# --- the Jacobian -------------------------------------------------------------------


def _jacobian(width: int) -> Run:
    network, x = network_of(width), points_of()
    return lambda: jacobian(network, network.params, x)


def _plain_jacobian(width: int) -> Run:
    """Backward mode once for each output."""
    network, x = network_of(width), points_of()
    leaves = [t.requires_grad_() for pair in weights_of(network) for t in pair]
    pairs = list(zip(leaves[::2], leaves[1::2], strict=True))

    def run() -> Tensor:
        rows = []
        for output in outputs_of(network, pairs, x, torch.tanh):
            slopes = torch.autograd.grad(output, leaves, retain_graph=True)
            rows.append(torch.cat([slope.flatten() for slope in slopes]))
        return torch.stack(rows)

    return run


def _vectorised_jacobian(width: int) -> Run:
    network, x = network_of(width), points_of()
    weights = weights_of(network)

    def output(weights: Weights, point: Tensor) -> Tensor:
        found: Tensor = outputs_of(network, weights, point, torch.tanh)
        return found

    gradients = torch.func.vmap(torch.func.grad(output), (None, 0))

    def run() -> Tensor:
        slopes = gradients(weights, x)
        return torch.cat([s.flatten(1) for layer in slopes for s in layer], dim=1)

    return run


def _inputs(width: int) -> dict[str, Any]:
    return {**arrays_of(network_of(width)), "x": points_of().numpy()}


def _error_along_directions(found: Any, width: int) -> float:
    """Against complex steps in two random directions, exact to rounding."""
    network, x = network_of(width), points_of().numpy()
    directions = np.random.default_rng(2).standard_normal((2, network.params.numel()))
    worst = 0.0
    for direction in directions:
        exact = derivative_along(network, direction, x, np.tanh)
        given = np.asarray(found) @ direction
        worst = max(worst, float(np.abs(given - exact).max() / np.abs(exact).max()))
    return worst


def derivative_along(
    network: Network, direction: Array, x: Array, activation: Any
) -> Array:
    """Imaginary part of the outputs for an imaginary step in weight space."""
    step = 1e-30
    moved = [
        (
            here.weight.numpy() + 1j * step * there.weight.numpy(),
            here.bias.numpy() + 1j * step * there.bias.numpy(),
        )
        for here, there in zip(
            network.layers(network.params),
            network.layers(torch.from_numpy(direction)),
            strict=True,
        )
    ]
    outputs = outputs_of(network, moved, x, activation)
    return np.asarray(outputs.imag / step)


CASES = (
    Case(
        name="Jacobian",
        module="networks",
        kernel="jacobian",
        measures=f"All gradients of {POINTS} outputs of a tanh network, two layers.",
        size_name="neurons per layer",
        sizes=(64, 128, 256, 512, 1024),
        setup=_jacobian,
        exact="complex steps in two directions",
        error_name="relative error",
        error=_error_along_directions,
        tolerance=1e-12,
        reference=Peer("torch, output by output", _plain_jacobian),
        peers=(
            Peer("torch.func, vmap of grad", _vectorised_jacobian),
            Peer("jax, vmap of grad", Elsewhere("jacobian", _inputs), "jax"),
        ),
    ),
)
