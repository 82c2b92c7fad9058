"""Training a wide network on a few points."""

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.cases.networks import (
    arrays_of,
    network_of,
    outputs_of,
    points_of,
    weights_of,
)
from benchmarks.harness import Case, Peer, Run
from benchmarks.remote import Elsewhere
from fpbook.training import gradient_descent, sgd

Array = NDArray[np.float64]

STEPS, RATE = 40, 0.02


def _targets() -> Array:
    return np.asarray(np.sin(np.arange(len(points_of()))))


def _samples() -> NDArray[np.int64]:
    return np.random.default_rng(3).integers(len(points_of()), size=STEPS)


# --- all points in every step -------------------------------------------------------


def _descent(width: int) -> Run:
    network, x, y = network_of(width, depth=1), points_of(), _targets()

    def run() -> Array:
        args = (network, network.params, x, y, RATE, STEPS)
        found = gradient_descent(*args, snapshots=[STEPS])
        return np.asarray(found.outputs[0])

    return run


def _single_samples(width: int) -> Run:
    network, x, y = network_of(width, depth=1), points_of(), _targets()
    samples = _samples()

    def run() -> Array:
        args = (network, network.params, x, y, samples, RATE)
        return np.asarray(sgd(*args).outputs[0])

    return run


def _plain(width: int, single: bool) -> Run:
    """Loop with an optimiser of torch, as one would write it."""
    network, x = network_of(width, depth=1), points_of()
    y, samples = torch.from_numpy(_targets()), _samples()

    def run() -> Array:
        leaves = [t.requires_grad_() for pair in weights_of(network) for t in pair]
        pairs = list(zip(leaves[::2], leaves[1::2], strict=True))
        optimiser = torch.optim.SGD(leaves, lr=RATE)
        for j in samples.tolist():
            chosen = slice(j, j + 1) if single else slice(None)
            optimiser.zero_grad()
            miss = outputs_of(network, pairs, x[chosen], torch.tanh) - y[chosen]
            (miss**2).sum().div(2).backward()
            optimiser.step()
        return np.asarray(outputs_of(network, pairs, x, torch.tanh).detach())

    return run


def _inputs(width: int, single: bool) -> dict[str, Any]:
    x = points_of().numpy()
    whole = np.arange(len(x))
    steps = [[j] if single else whole for j in _samples()]
    return {
        **arrays_of(network_of(width, depth=1)),
        "x": x,
        "y": _targets(),
        "rate": RATE,
        "batches": np.array(steps),
    }


def _error(outputs: Array, width: int, single: bool) -> float:
    """Against the same descent in numbers of 80 bits, with gradients by hand."""
    network, x = network_of(width, depth=1), points_of().numpy()
    (W, b), (v, c) = (
        tuple(part.numpy().astype(np.longdouble) for part in pair)
        for pair in weights_of(network)
    )
    first, last = network.layers(network.params)
    m1, m2 = (np.longdouble(layer.weight_multiplier) for layer in (first, last))
    c1, c2 = (np.longdouble(layer.bias_multiplier) for layer in (first, last))
    x, y = x.astype(np.longdouble), _targets().astype(np.longdouble)
    eta = np.longdouble(RATE)
    for j in _samples():
        chosen = slice(j, j + 1) if single else slice(None)
        a = x[chosen]
        phi = np.tanh(m1 * (a @ W.T) + c1 * b)
        miss = m2 * (phi @ v[0]) + c2 * c[0] - y[chosen]
        back = miss[:, None] * m2 * v[0] * (1 - phi**2)
        v = v - eta * m2 * (miss @ phi)
        c = c - eta * c2 * miss.sum()
        W = W - eta * m1 * (back.T @ a)
        b = b - eta * c1 * back.sum(axis=0)
    exact = m2 * (np.tanh(m1 * (x @ W.T) + c1 * b) @ v[0]) + c2 * c[0]
    return float(np.abs(np.asarray(outputs) - exact).max() / np.abs(exact).max())


CASES = tuple(
    Case(
        name=name,
        module="training",
        kernel=kernel,
        measures=f"{STEPS} steps of a tanh network with one hidden layer, {points}.",
        size_name="neurons",
        sizes=(64, 256, 1024, 4096, 16384),
        setup=setup,
        exact="the same descent in numbers of 80 bits",
        error_name="relative error",
        error=partial(_error, single=single),
        tolerance=1e-11,
        reference=Peer("torch.optim.SGD", partial(_plain, single=single)),
        peers=(
            Peer(
                "jax, grad and a compiled loop",
                Elsewhere("descent", partial(_inputs, single=single)),
                "jax",
            ),
        ),
    )
    for name, kernel, setup, single, points in (
        ("gradient descent", "gradient_descent", _descent, False, "16 points a step"),
        ("single samples", "sgd", _single_samples, True, "one point a step"),
    )
)
