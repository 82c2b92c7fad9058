"""Loss and gradient noise of a 2 x 2 block on a grid of all its weights."""

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.harness import Case, Peer, Run
from fpbook.deep_autoencoder import Rest
from fpbook.finite_volumes import Grid
from fpbook.resolved_block import block_covariance, block_loss

Array = NDArray[np.float64]

SAMPLES, SEED = 50, 0
CHECKED = 20
"""Points of the grid at which a result is compared with the exact one."""


def _rest() -> Rest:
    rng = np.random.default_rng(SEED)
    z = np.tanh(rng.standard_normal((SAMPLES, 2)))
    root = np.eye(2) + 0.3 * rng.standard_normal((2, 2))
    return Rest(z, z @ root + 0.1 * rng.standard_normal((SAMPLES, 2)), root.T @ root)


def _points(count: int) -> Array:
    return Grid([-1.5] * 4, [1.5] * 4, round(count**0.25)).points


def _some(count: int) -> NDArray[np.intp]:
    return np.random.default_rng(SEED).integers(count, size=CHECKED)


# --- the loss -----------------------------------------------------------------------


def _loss(count: int) -> Run:
    points, rest = _points(count), _rest()
    return lambda: block_loss(points, rest)


def _loss_point_by_point(count: int) -> Run:
    """All points and samples at once, in parts that fit into memory."""
    points, rest = _points(count), _rest()

    def run() -> Array:
        found = []
        for part in np.array_split(points, max(1, count // 20_000)):
            response = np.tanh(rest.z @ part.reshape(-1, 2, 2).swapaxes(1, 2))
            pulled = response @ rest.G / 2 - rest.b
            found.append((pulled * response).sum(axis=2).mean(axis=1))
        return np.concatenate(found)

    return run


def _loss_by_torch(count: int) -> Run:
    """As before, in one piece, in double precision."""
    points, rest = torch.tensor(_points(count)), _rest()
    z, b, G = (torch.tensor(part) for part in rest)

    def run() -> Array:
        response = torch.tanh(z @ points.reshape(-1, 2, 2).mT)
        loss = ((response @ G / 2 - b) * response).sum(dim=2).mean(dim=1)
        result: Array = loss.numpy()
        return result

    return run


def _error_of_loss(loss: Array, count: int) -> float:
    rest, worst = _rest(), 0.0
    for place in _some(count):
        W = _points(count)[place].reshape(2, 2).astype(np.longdouble)
        response = np.tanh(rest.z.astype(np.longdouble) @ W.T)
        exact = ((response @ rest.G / 2 - rest.b) * response).sum() / SAMPLES
        worst = max(worst, abs(float(loss[place] - exact)))
    return worst


# --- the noise ----------------------------------------------------------------------


def _noise(count: int) -> Run:
    points, rest = _points(count), _rest()
    return lambda: block_covariance(points, rest)


def _gradients(blocks: Array, rest: Rest) -> Array:
    response = np.tanh(rest.z @ blocks.reshape(-1, 2, 2).swapaxes(1, 2))
    push = (response @ rest.G - rest.b) * (1 - response**2)
    gradients: Array = (push[..., None] * rest.z[:, None, :]).reshape(-1, SAMPLES, 4)
    return gradients


def _noise_point_by_point(count: int) -> Run:
    """Gradients of all samples, in parts, and their covariance."""
    points, rest = _points(count), _rest()

    def run() -> Array:
        found = []
        for part in np.array_split(points, max(1, count // 5_000)):
            g = _gradients(part, rest)
            centred = g - g.mean(axis=1, keepdims=True)
            found.append(centred.swapaxes(1, 2) @ centred / SAMPLES)
        return np.concatenate(found)

    return run


def _error_of_noise(noise: Array, count: int) -> float:
    rest, worst = _rest(), 0.0
    for place in _some(count):
        (gradients,) = _gradients(_points(count)[place][None], rest)
        exact = np.cov(gradients.T, bias=True)
        worst = max(worst, float(np.abs(noise[place] - exact).max()))
    return worst


CASES = (
    Case(
        name="loss of a block",
        module="resolved_block",
        kernel="block_loss",
        measures=f"The loss on a grid of four weights, over {SAMPLES} samples.",
        size_name="points",
        sizes=(6**4, 9**4, 13**4, 19**4, 27**4),
        setup=_loss,
        exact="sums in extended precision at some points",
        error_name="largest error",
        error=_error_of_loss,
        tolerance=1e-13,
        reference=Peer("numpy, all points and samples", _loss_point_by_point),
        peers=(Peer("torch, all points and samples", _loss_by_torch, largest=19**4),),
    ),
    Case(
        name="gradient noise of a block",
        module="resolved_block",
        kernel="block_covariance",
        measures=f"The covariance on a grid of four weights, over {SAMPLES} samples.",
        size_name="points",
        sizes=(6**4, 9**4, 13**4, 19**4),
        setup=_noise,
        exact="numpy.cov of all gradients at some points",
        error_name="largest error",
        error=_error_of_noise,
        tolerance=1e-13,
        reference=Peer("numpy, all points and samples", _noise_point_by_point),
    ),
)
