"""Cost of the order parameters of the speed energy on a grid of 720 points.

Prints the CPU time on one thread of ``fpbook.replicas.order_parameters`` for 20 gains,
9 symmetries and 4 temperatures, with the largest residual, and of the part with
gamma >= 0 also against a plain reference in the same run: the equations of the
paramagnet as printed, solved point by point by Powell's hybrid method with differences
for the Jacobian, every point from the solution at the next higher temperature.

Run it from the root of the repository:

    python benchmarks/order_parameters.py

Target: the grid in 5 s, with residuals below 1e-10.
"""

import os
import sys
import time
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", FPBOOK_STATIC="1")

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import root

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fpbook.replicas import order_parameters

Array = NDArray[np.float64]

GAINS = np.linspace(0.2, 2.1, 20)
GAMMAS = np.array([-0.5, -0.35, -0.2, -0.1, 0.0, 0.2, 0.5, 0.8, 1.0])
TEMPERATURES = np.array([1e-1, 1e-2, 1e-3, 1e-4])
RUNGS = 10 ** np.arange(1, -4.1, -0.25)


def averages(v: Array, g: float, gamma: float, T: float) -> Array:
    q, r, qhat = np.exp(v[0]), v[1], v[2]
    s, pull = T + g**2 * q, g**2 * gamma * r
    reach = 9 * s**0.5 + 1.2 * abs(pull)
    x = np.linspace(-reach, reach, 1201)
    phi = np.tanh(x)
    y = x - pull * phi
    exponent = qhat * phi**2 - y**2 / (2 * s)
    weight = np.exp(exponent - exponent.max())
    weight /= weight.sum()
    right = [
        weight @ phi**2 / q - 1,
        weight @ (y * phi) / s - r,
        g**2 / 2 * (weight @ y**2 / s**2 - 1 / s) - qhat,
    ]
    return np.array(right)


def plain(gammas: Array) -> Array:
    """Activities for all gains, symmetries and temperatures, point by point."""
    q = np.empty((len(gammas), len(TEMPERATURES), len(GAINS)))
    for i, gamma in enumerate(gammas):
        for k, g in enumerate(GAINS):
            v = np.array([np.log(0.8), 0.2, 0.0])
            for T in RUNGS:
                v = root(averages, v, (g, gamma, T), method="hybr", tol=1e-12).x
                near = np.isclose(T, TEMPERATURES)
                if near.any():
                    q[i, near.argmax(), k] = np.exp(v[0])
    return q


def main() -> None:
    start = time.process_time()
    grid = order_parameters(GAINS, GAMMAS[:, None, None], TEMPERATURES[:, None])
    seconds = time.process_time() - start
    overlaps = int((grid.Q > 0).sum())
    print(f"{grid.q.size} points, {overlaps} with an overlap of replicas:")
    print(f"  {seconds:.2f} s, residual at most {grid.residual.max():.1e}")

    positive = GAMMAS[GAMMAS >= 0]
    start = time.process_time()
    part = order_parameters(GAINS, positive[:, None, None], TEMPERATURES[:, None])
    ours = time.process_time() - start
    start = time.process_time()
    reference = plain(positive)
    theirs = time.process_time() - start
    error = np.abs(reference / part.q - 1).max()
    print(f"{part.q.size} points with gamma >= 0:")
    print(f"  {ours:.2f} s; point by point {theirs:.2f} s, {theirs / ours:.0f} times")
    print(f"  largest relative difference of the activities {error:.1e}")


if __name__ == "__main__":
    main()
