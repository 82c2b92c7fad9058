"""Losses of tiny autoencoders: gradients of many networks, noise of one sample."""

import itertools

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.special import erf

from benchmarks.harness import Case, Peer, Run
from fpbook.autoencoder import matrix_noise, scalar_gradient

Array = NDArray[np.float64]

SEED = 0
CHECKED = 5
"""Networks whose result is compared with the exact one."""

# --- two weights --------------------------------------------------------------------


def _weights(networks: int) -> Array:
    return np.random.default_rng(SEED).uniform(-2, 2, (networks, 2))


def _closed_gradients(networks: int) -> Run:
    w = _weights(networks)
    return lambda: scalar_gradient(w, "erf")


def _quadrature_gradients(networks: int) -> Run:
    """Average over Gauss's points, as for an activation without closed forms."""
    w = _weights(networks)
    x, weights = np.polynomial.hermite_e.hermegauss(160)
    weights /= weights.sum()

    def run() -> Array:
        phi = erf(np.multiply.outer(w[:, 0], x))
        slope = 2 / np.pi**0.5 * np.exp(-(np.multiply.outer(w[:, 0], x) ** 2))
        miss = x - w[:, 1:] * phi
        return (
            -np.stack([(miss * w[:, 1:] * x * slope), miss * phi], axis=-1).transpose(
                0, 2, 1
            )
            @ weights
        )

    return run


def _torch_gradients(networks: int) -> Run:
    """Derivative of the closed form of the loss, by backward mode."""
    w = torch.tensor(_weights(networks), requires_grad=True)

    def run() -> Array:
        w1, w2 = w.T
        a = 1 + 2 * w1**2
        signal = 2 * w1 / torch.sqrt(torch.pi * a)
        power = 2 / torch.pi * torch.asin((a - 1) / a)
        loss = (0.5 - w2 * signal + w2**2 * power / 2).sum()
        (gradient,) = torch.autograd.grad(loss, w)
        result: Array = gradient.numpy()
        return result

    return run


def _error_of_gradients(gradients: Array, networks: int) -> float:
    worst = 0.0
    for w, found in zip(_weights(networks)[:CHECKED], gradients, strict=False):
        for axis in range(2):
            exact = quad(_pull, -12, 12, (w, axis), epsabs=1e-13, limit=200)[0]
            worst = max(worst, abs(found[axis] - exact))
    return worst


def _pull(x: float, w: Array, axis: int) -> float:
    phi = erf(w[0] * x)
    slope = 2 / np.pi**0.5 * np.exp(-((w[0] * x) ** 2))
    along = w[1] * x * slope if axis == 0 else phi
    return float(-(x - w[1] * phi) * along * np.exp(-(x**2) / 2) / (2 * np.pi) ** 0.5)


# --- two matrices -------------------------------------------------------------------

K, DIM, LABEL_NOISE = 2, 3, 0.3
COVARIANCE = np.array([[1.0, 0.3, 0.0], [0.3, 0.7, -0.2], [0.0, -0.2, 0.5]])


def _matrices(networks: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(SEED)
    shapes = ((networks, K, DIM), (networks, DIM, K))
    first, second = (rng.normal(0, 0.7, shape) for shape in shapes)
    return first, second


def _noises(networks: int) -> Run:
    first, second = _matrices(networks)
    return lambda: matrix_noise(first, second, COVARIANCE, LABEL_NOISE)


def _noises_one_by_one(networks: int) -> Run:
    """Fourth moments of the data, contracted with the gradient's two factors."""
    pairs = list(zip(*_matrices(networks), strict=True))
    root = np.linalg.cholesky(COVARIANCE)
    full = np.zeros((2 * DIM, 2 * DIM))
    full[:DIM, :DIM], full[DIM:, DIM:] = root, LABEL_NOISE * np.eye(DIM)
    # Of independent unit normals; the sample is a linear function of them.
    eye = np.eye(2 * DIM)
    fourth = sum(
        np.einsum(pattern, eye, eye) for pattern in ("ab,cd->abcd", "ac,bd->abcd")
    ) + np.einsum("ad,bc->abcd", eye, eye)
    fourth = fourth - np.einsum("ab,cd->abcd", eye, eye)

    def run() -> Array:
        found = []
        for W1, W2 in pairs:
            miss = np.concatenate([np.eye(DIM) - W2 @ W1, np.eye(DIM)], axis=1) @ full
            x = full[:DIM]
            left = [W2.T @ miss] * DIM + [miss] * K
            first = np.stack([left[0][i] for i in range(K) for _ in range(DIM)])
            second = np.stack([miss[i] for i in range(DIM) for _ in range(K)])
            n = np.concatenate([first, second])
            hidden = W1 @ x
            v = np.concatenate([np.tile(x, (K, 1)), np.tile(hidden, (DIM, 1))])
            found.append(
                np.einsum("ia,ib,jc,jd,abcd->ij", n, v, n, v, fourth, optimize=True)
            )
        return np.stack(found)

    return run


def _error_of_noises(noises: Array, networks: int) -> float:
    """Against Gauss's quadrature over all entries of the data and of the noise."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    weights = weights / weights.sum()
    grid = np.array(list(itertools.product(nodes, repeat=2 * DIM)))
    mass = np.prod(list(itertools.product(weights, repeat=2 * DIM)), axis=1)
    x = grid[:, :DIM] @ np.linalg.cholesky(COVARIANCE).T
    y = x + LABEL_NOISE * grid[:, DIM:]
    worst = 0.0
    pairs = zip(*_matrices(networks), strict=True)
    for (W1, W2), found in list(zip(pairs, noises, strict=True))[:CHECKED]:
        hidden = x @ W1.T
        miss = hidden @ W2.T - y
        by_first = np.einsum("ni,nj->nij", miss @ W2, x)
        by_second = np.einsum("ni,nj->nij", miss, hidden)
        gradients = np.concatenate(
            [by_first.reshape(len(x), -1), by_second.reshape(len(x), -1)], axis=1
        )
        centred = gradients - mass @ gradients
        exact = (mass[:, None] * centred).T @ centred
        worst = max(worst, float(np.abs(found - exact).max()))
    return worst


CASES = (
    Case(
        name="gradients of two weights",
        module="autoencoder",
        kernel="scalar_gradient",
        measures="Gradients of autoencoders of two weights, with the error function.",
        size_name="networks",
        sizes=(1_000, 10_000, 30_000, 100_000, 300_000),
        setup=_closed_gradients,
        exact="adaptive quadrature over the data",
        error_name="largest error",
        error=_error_of_gradients,
        tolerance=1e-9,
        reference=Peer(
            "numpy, 160 Gauss points", _quadrature_gradients, largest=30_000
        ),
        peers=(Peer("torch, backward mode", _torch_gradients),),
    ),
    Case(
        name="gradient noise of two matrices",
        module="autoencoder",
        kernel="matrix_noise",
        measures="Covariance of the gradient of one sample, 12 weights.",
        size_name="networks",
        sizes=(100, 300, 1_000, 3_000, 10_000),
        setup=_noises,
        exact="quadrature over data and label noise",
        error_name="largest error",
        error=_error_of_noises,
        tolerance=1e-12,
        reference=Peer("numpy, fourth moments", _noises_one_by_one, largest=300),
    ),
)
