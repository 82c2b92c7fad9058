"""Random recurrent networks: chaos, and descent of the speed."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Case, Peer, Run
from benchmarks.remote import Elsewhere
from fpbook.dynamic_mean_field import mean_field_dynamics
from fpbook.random_networks import (
    lyapunov_spectrum,
    random_couplings,
    speed_gradient,
)

Array = NDArray[np.float64]

G, SEED = 4.0, 1
DT, WARM_UP, TIME, BETWEEN = 0.1, 20.0, 80.0, 5
BEFORE, BLOCKS = round(WARM_UP / DT / BETWEEN), round(TIME / DT / BETWEEN)
REPLICAS = 32

# --- the largest Lyapunov exponent --------------------------------------------------


@cache
def _couplings(neurons: int) -> Array:
    return random_couplings(neurons, 0.0, SEED)


def _start(neurons: int) -> tuple[Array, Array]:
    """State and tangent that ``lyapunov_spectrum`` draws from the seed."""
    rng = np.random.default_rng(SEED)
    x, v = rng.standard_normal(neurons), rng.standard_normal(neurons)
    return x, v / np.linalg.norm(v)


def _exponent(neurons: int) -> Run:
    J = _couplings(neurons)
    how: dict[str, Any] = {"dt": DT, "warm_up": WARM_UP, "between": BETWEEN}
    return lambda: lyapunov_spectrum(J, G, 1, TIME, **how, seed=SEED)[0]


def _plain_exponent(neurons: int) -> Run:
    """Loop as one would write it: state and tangent one after the other."""
    J = _couplings(neurons)

    def velocity(x: Array) -> Array:
        return -x + G * (J @ np.tanh(x))

    def tangent(x: Array, v: Array) -> Array:
        return -v + G * (J @ ((1 - np.tanh(x) ** 2) * v))

    def run() -> float:
        x, v = _start(neurons)
        growth = 0.0
        for block in range(BEFORE + BLOCKS):
            for _ in range(BETWEEN):
                x2 = x + DT / 2 * (k1 := velocity(x))
                x3 = x + DT / 2 * (k2 := velocity(x2))
                x4 = x + DT * (k3 := velocity(x3))
                k4 = velocity(x4)
                l1 = tangent(x, v)
                l2 = tangent(x2, v + DT / 2 * l1)
                l3 = tangent(x3, v + DT / 2 * l2)
                l4 = tangent(x4, v + DT * l3)
                x = x + DT / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
                v = v + DT / 6 * (l1 + 2 * l2 + 2 * l3 + l4)
            size = np.linalg.norm(v)
            v = v / size
            if block >= BEFORE:
                growth += np.log(size)
        return float(growth / TIME)

    return run


def _exponent_inputs(neurons: int) -> dict[str, Any]:
    return {
        "couplings": G * _couplings(neurons),
        "start": np.stack(_start(neurons)),
        "dt": DT,
        "between": BETWEEN,
        "before": BEFORE,
        "blocks": BLOCKS,
    }


def _error_of_exponent(found: Any, _: int) -> float:
    """Against a network of infinite size: one draw differs from it by chance."""
    return float(abs(float(found) / mean_field_dynamics(G).lyapunov - 1))


# --- the gradient of the speed ------------------------------------------------------


def _states(neurons: int) -> Array:
    return np.random.default_rng(2).standard_normal((neurons, REPLICAS))


def _gradient(neurons: int) -> Run:
    J, x = _couplings(neurons), _states(neurons)
    return lambda: speed_gradient(x, J, G)


def _plain_gradient(neurons: int) -> Run:
    """Formula as one would write it: tanh twice, new arrays for all."""
    J, x = _couplings(neurons), _states(neurons)

    def run() -> Array:
        F = -x + G * (J @ np.tanh(x))
        gradient: Array = -F + (1 - np.tanh(x) ** 2) * G * (J.T @ F)
        return gradient

    return run


def _gradient_of_torch(neurons: int) -> Run:
    import torch

    J, x = (torch.from_numpy(a) for a in (_couplings(neurons), _states(neurons)))

    def run() -> torch.Tensor:
        state = x.clone().requires_grad_()
        energy = ((G * (J @ torch.tanh(state)) - state) ** 2).sum() / 2
        (slope,) = torch.autograd.grad(energy, state)
        return slope

    return run


def _gradient_inputs(neurons: int) -> dict[str, Any]:
    return {"couplings": G * _couplings(neurons), "x": _states(neurons)}


def _error_of_gradient(found: Any, neurons: int) -> float:
    """Against the matrix F' of two replicas, times F."""
    J, worst = _couplings(neurons), 0.0
    for k in (0, REPLICAS - 1):
        x = _states(neurons)[:, k]
        phi = np.tanh(x)
        slopes = G * J * (1 - phi**2) - np.eye(neurons)
        exact = slopes.T @ (G * (J @ phi) - x)
        difference = np.abs(np.asarray(found)[:, k] - exact).max()
        worst = max(worst, float(difference / np.abs(exact).max()))
    return worst


CASES = (
    Case(
        name="Lyapunov exponent",
        module="random_networks",
        kernel="lyapunov_spectrum",
        measures="Largest exponent at g = 4: 100 time units, of which 20 are left out.",
        size_name="neurons",
        sizes=(128, 256, 384, 512),
        setup=_exponent,
        exact="the exponent of an infinite network",
        error_name="relative error",
        error=_error_of_exponent,
        # One draw: of the order of one over the root of the neurons.
        tolerance=0.25,
        order=0.5,
        reference=Peer("numpy, plain loop", _plain_exponent),
        peers=(
            Peer(
                "jax, jvp and a compiled loop",
                Elsewhere("lyapunov", _exponent_inputs),
                "jax",
            ),
        ),
    ),
    Case(
        name="gradient of the speed",
        module="random_networks",
        kernel="speed_gradient",
        measures=f"Gradient of half the squared speed of {REPLICAS} replicas.",
        size_name="neurons",
        sizes=(64, 128, 256, 512, 1024, 2048),
        setup=_gradient,
        exact="explicit matrices of two replicas",
        error_name="relative error",
        error=_error_of_gradient,
        tolerance=1e-12,
        reference=Peer("numpy, the formula", _plain_gradient),
        peers=(
            Peer("torch, backward mode", _gradient_of_torch),
            Peer("jax, grad", Elsewhere("speed_gradient", _gradient_inputs), "jax"),
        ),
    ),
)
