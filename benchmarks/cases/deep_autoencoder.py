"""Gradients of many autoencoders with a small block, each with its own minibatch."""

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.harness import Case, Peer, Run
from fpbook.deep_autoencoder import Network, balanced_network, network_gradient

Array = NDArray[np.float64]

INPUTS, HIDDEN, BATCH, SEED = 16, 8, 4, 0


def _problem(networks: int) -> tuple[Network, Array, Array]:
    rng = np.random.default_rng(SEED)
    one = balanced_network(INPUTS, HIDDEN, rng)
    many = Network(*(np.repeat(w[None], networks, axis=0) for w in one))
    many = Network(*(w + 0.1 * rng.standard_normal(w.shape) for w in many))
    x, noise = rng.standard_normal((2, networks, BATCH, INPUTS))
    return many, x, x + 0.1 * noise


def _flat(parts: Network) -> Array:
    return np.concatenate([w.reshape(len(w), -1) for w in parts], axis=1)


def _together(networks: int) -> Run:
    problem = _problem(networks)
    return lambda: _flat(network_gradient(*problem))


def _one_by_one(networks: int) -> Run:
    """Back-propagation for one network after the other."""
    many, x, y = _problem(networks)

    def run() -> Array:
        found = []
        for number in range(networks):
            W1, W2, W, W4, W5 = (w[number] for w in many)
            inputs, targets = x[number], y[number]
            h = np.tanh(inputs @ W1.T)
            z = np.tanh(h @ W2.T)
            z1 = np.tanh(z @ W.T)
            m = z1 @ W4.T
            to_output = (m @ W5.T - targets) / BATCH
            to_m = to_output @ W5
            to_z1 = (to_m @ W4) * (1 - z1**2)
            to_z = (to_z1 @ W) * (1 - z**2)
            to_h = (to_z @ W2) * (1 - h**2)
            parts = (to_h.T @ inputs, to_z.T @ h, to_z1.T @ z, to_m.T @ z1)
            found.append(np.concatenate([p.ravel() for p in (*parts, to_output.T @ m)]))
        return np.stack(found)

    return run


def _by_torch(networks: int) -> Run:
    """Batched products of matrices, and backward mode."""
    many, x, y = _problem(networks)
    weights = [torch.tensor(w, requires_grad=True) for w in many]
    inputs, targets = torch.tensor(x), torch.tensor(y)

    def run() -> Array:
        state = inputs
        for number, w in enumerate(weights):
            state = state @ w.mT
            if number < 3:
                state = torch.tanh(state)
        loss = ((state - targets) ** 2).sum() / (2 * BATCH)
        parts = torch.autograd.grad(loss, weights)
        result: Array = torch.cat([g.flatten(1) for g in parts], dim=1).numpy()
        return result

    return run


def _error(gradients: Array, networks: int) -> float:
    """Against complex steps along all weights of the first network."""
    many, x, y = _problem(networks)
    shapes = [w.shape[1:] for w in many]
    cuts = np.cumsum([np.prod(shape) for shape in shapes])[:-1]
    flat = _flat(many)[0]
    step = 1e-30
    points = flat + 1j * step * np.eye(flat.size)
    parts = np.split(points, cuts, axis=1)
    state = np.broadcast_to(x[0], (flat.size, *x[0].shape)).astype(complex)
    for number, (part, shape) in enumerate(zip(parts, shapes, strict=True)):
        state = state @ part.reshape(-1, *shape).swapaxes(1, 2)
        if number < 3:
            state = np.tanh(state)
    loss = ((state - y[0]) ** 2).sum(axis=(1, 2)) / (2 * BATCH)
    return float(np.abs(gradients[0] - loss.imag / step).max())


CASES = (
    Case(
        name="gradients of deep autoencoders",
        module="deep_autoencoder",
        kernel="network_gradient",
        measures=f"Gradients of networks {INPUTS}-{HIDDEN}-2-2-{HIDDEN}-{INPUTS}, "
        f"each with its own minibatch of {BATCH}.",
        size_name="networks",
        sizes=(30, 100, 300, 1_000, 3_000, 10_000),
        setup=_together,
        exact="complex steps along all weights",
        error_name="largest error",
        error=_error,
        tolerance=1e-13,
        reference=Peer("numpy, one by one", _one_by_one, largest=3_000),
        peers=(Peer("torch, backward mode", _by_torch),),
    ),
)
