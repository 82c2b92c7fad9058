"""Tangent kernels of networks, their limit, and training that is linear in them."""

from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import erf
from torch import Tensor

from benchmarks.cases.networks import (
    INPUTS,
    SIGMA_B,
    arrays_of,
    derivative_along,
    network_of,
    outputs_of,
    points_of,
    weights_of,
)
from benchmarks.harness import Case, Peer, Run, Target
from benchmarks.remote import Elsewhere
from fpbook.networks import ACTIVATIONS
from fpbook.tangent_kernel import empirical, infinite_width, linear_sgd

Array = NDArray[np.float64]

# --- kernels of networks ------------------------------------------------------------

POINTS = 32
EXPLICIT = 1024
"""Width up to which the gradients of all outputs are held at once."""


def _kernel(width: int) -> Run:
    network, x = network_of(width, "erf"), points_of(POINTS)
    return lambda: empirical(network, network.params, x)


def _explicit_kernel(width: int) -> Run:
    """Multiply the explicit Jacobian by its transpose, tensor by tensor."""
    network, x = network_of(width, "erf"), points_of(POINTS)
    weights = weights_of(network)

    def output(weights: Any, point: Tensor) -> Tensor:
        found: Tensor = outputs_of(network, weights, point, torch.special.erf)
        return found

    gradients = torch.func.vmap(torch.func.grad(output), (None, 0))

    def run() -> Tensor:
        slopes = gradients(weights, x)
        parts = [part.flatten(1) for layer in slopes for part in layer]
        return torch.stack([J @ J.T for J in parts]).sum(0)

    return run


def _kernel_vector_products(width: int) -> Run:
    """Pull basis vectors back and push them forward again, all at once."""
    network, x = network_of(width, "erf"), points_of(POINTS)
    weights = weights_of(network)

    def outputs(weights: Any) -> Tensor:
        found: Tensor = outputs_of(network, weights, x, torch.special.erf)
        return found

    def column(vector: Tensor) -> Tensor:
        (direction,) = torch.func.vjp(outputs, weights)[1](vector)
        pushed: Tensor = torch.func.jvp(outputs, (weights,), (direction,))[1]
        return pushed

    eye = torch.eye(POINTS, dtype=torch.float64)
    return lambda: torch.func.vmap(column)(eye)


def _kernel_inputs(width: int) -> dict[str, Any]:
    return {**arrays_of(network_of(width, "erf")), "x": points_of(POINTS).numpy()}


def _error_of_columns(kernel: Any, width: int) -> float:
    """Two columns: complex steps along the gradients of two outputs."""
    network, x = network_of(width, "erf"), points_of(POINTS)
    worst = 0.0
    for j in (0, POINTS // 2):
        theta = network.params.clone().requires_grad_()
        (slope,) = torch.autograd.grad(network(theta, x[j : j + 1])[0], theta)
        exact = derivative_along(network, slope.numpy(), x.numpy(), erf)
        difference = np.abs(np.asarray(kernel)[:, j] - exact).max()
        worst = max(worst, float(difference / np.abs(exact).max()))
    return worst


# --- the limit of infinite width ----------------------------------------------------

NODES = 64
"""Of the plain average along each of two axes; the error is then about 1e-12."""


def _inputs_of(count: int) -> Array:
    return np.random.default_rng(4).standard_normal((count, INPUTS))


def _limit(count: int) -> Run:
    x = _inputs_of(count)
    return lambda: infinite_width(x, None, 1, "gelu", 1.0, SIGMA_B)


def _averages(s: Array, q1: Array, q2: Array, nodes: int) -> list[Array]:
    """Means of products of GELUs and of their slopes, by Gauss-Hermite nodes."""
    z, weights = np.polynomial.hermite_e.hermegauss(nodes)
    weights = weights / weights.sum()
    u = np.sqrt(q1)[..., None] * z
    own = np.sqrt(np.maximum(q2 - s**2 / q1, 0))
    v = (s / np.sqrt(q1))[..., None, None] * z[:, None] + own[..., None, None] * z
    found = []
    for function in ACTIVATIONS["gelu"]:
        on_u, on_v = (function(torch.from_numpy(a)).numpy() for a in (u, v))
        found.append((on_u * (on_v @ weights)) @ weights)
    return found


def _limit_by_nodes(x: Array, y: Array, nodes: int) -> Array:
    """Kernel with one hidden layer, row by row: all nodes of a row fit the memory."""
    q = (y**2).mean(axis=1) + SIGMA_B**2
    rows = []
    for point in x:
        s = y @ point / INPUTS + SIGMA_B**2
        own = np.full_like(s, point @ point / INPUTS + SIGMA_B**2)
        product, slopes = _averages(s, own, q, nodes)
        rows.append(product + SIGMA_B**2 + slopes * s)
    return np.array(rows)


def _plain_limit(count: int) -> Run:
    x = _inputs_of(count)
    return lambda: _limit_by_nodes(x, x, NODES)


@cache
def _exact_limit(count: int) -> Array:
    """Few rows, with many nodes."""
    x = _inputs_of(count)
    return _limit_by_nodes(x[:3], x[:24], 160)


def _error_of_limit(kernel: Any, count: int) -> float:
    exact = _exact_limit(count)
    difference = np.asarray(kernel)[:3, :24] - exact
    return float(np.abs(difference).max() / np.abs(exact).max())


def _limit_inputs(count: int) -> dict[str, Any]:
    return {"x": _inputs_of(count), "sigma_w": 1.0, "sigma_b": SIGMA_B}


# --- linear training ----------------------------------------------------------------

SAMPLES, TESTS = 6, 15


def _linear_problem(steps: int) -> dict[str, Any]:
    rng = np.random.default_rng(5)
    count = SAMPLES + TESTS
    features = rng.standard_normal((count, count))
    kernel = features @ features.T / count
    return {
        "kernel": kernel[:, :SAMPLES],
        "y": rng.standard_normal(SAMPLES),
        "f0": rng.standard_normal(count),
        "samples": rng.integers(SAMPLES, size=steps),
        "noise": rng.standard_normal(steps),
        "rate": 0.5 / kernel.diagonal()[:SAMPLES].max(),
    }


def _linear(steps: int) -> Run:
    p = _linear_problem(steps)
    K, k = p["kernel"][:SAMPLES], p["kernel"][SAMPLES:]
    args = (K, p["y"], p["f0"], p["samples"], p["rate"])
    return lambda: linear_sgd(*args, noise=p["noise"], test_kernel=k)[0]


def _linear_loop(
    kernel: Array,
    y: Array,
    f0: Array,
    samples: NDArray[np.int64],
    noise: Array,
    rate: float,
) -> Array:
    f = f0
    for j, epsilon in zip(samples, noise, strict=True):
        f = f - rate * kernel[:, j] * (f[j] - y[j] - epsilon)
    return f


def _plain_linear(steps: int) -> Run:
    p = _linear_problem(steps)
    return lambda: _linear_loop(**p)


def _compiled_linear(steps: int) -> Run:
    loop, p = _compiled_loop(), _linear_problem(steps)
    return lambda: loop(*p.values())


@cache
def _compiled_loop() -> Any:
    from numba import njit

    @njit
    def loop(
        kernel: Array,
        y: Array,
        f0: Array,
        samples: NDArray[np.int64],
        noise: Array,
        rate: float,
    ) -> Array:
        f = f0.copy()
        for step in range(len(samples)):
            j = samples[step]
            push = rate * (f[j] - y[j] - noise[step])
            for i in range(len(f)):
                f[i] -= push * kernel[i, j]
        return f

    return loop


@cache
def _exact_linear(steps: int) -> Array:
    p = _linear_problem(steps)
    long: dict[str, Any] = {
        name: value if name == "samples" else np.longdouble(value)
        for name, value in p.items()
    }
    return _linear_loop(**long)


def _error_of_linear(outputs: Any, steps: int) -> float:
    exact = _exact_linear(steps)
    return float(np.abs(np.asarray(outputs) - exact).max() / np.abs(exact).max())


CASES = (
    Case(
        name="tangent kernel",
        module="tangent_kernel",
        kernel="empirical",
        measures=f"Kernel of {POINTS} inputs of an erf network with two hidden layers.",
        size_name="neurons per layer",
        sizes=(256, 512, 1024, 2048, 4096),
        setup=_kernel,
        exact="complex steps along two gradients",
        error_name="relative error",
        error=_error_of_columns,
        tolerance=1e-12,
        reference=Peer("torch.func, explicit J J^T", _explicit_kernel, "", EXPLICIT),
        peers=(
            Peer("torch.func, K v for all v", _kernel_vector_products, "", 512),
            Peer(
                "neural-tangents, structured",
                Elsewhere("tangent_kernel", _kernel_inputs),
                "neural-tangents",
                EXPLICIT,
            ),
        ),
        target=Target(size=1024, seconds=0.02),
    ),
    Case(
        name="infinite width",
        module="tangent_kernel",
        kernel="infinite_width",
        measures="Kernel between all of n inputs, GELU with one hidden layer.",
        size_name="inputs",
        sizes=(50, 100, 200, 400, 800, 1600),
        setup=_limit,
        exact="averages over 160 x 160 nodes, for some pairs",
        error_name="relative error",
        error=_error_of_limit,
        tolerance=1e-9,
        reference=Peer("numpy, 64 x 64 nodes", _plain_limit, "", 100),
        peers=(
            Peer(
                "neural-tangents, closed form",
                Elsewhere("infinite_width", _limit_inputs),
                "neural-tangents",
            ),
        ),
    ),
    Case(
        name="linear SGD",
        module="tangent_kernel",
        kernel="linear_sgd",
        measures=f"Single samples of {SAMPLES}, {TESTS} test points, noise on labels.",
        size_name="steps",
        sizes=(300, 1000, 3000, 10_000, 30_000),
        setup=_linear,
        exact="the same steps in numbers of 80 bits",
        error_name="relative error",
        error=_error_of_linear,
        tolerance=1e-12,
        reference=Peer("numpy, plain loop", _plain_linear),
        peers=(
            Peer("numba", _compiled_linear, "numba"),
            Peer("jax, lax.scan", Elsewhere("linear_sgd", _linear_problem), "jax"),
        ),
    ),
)
