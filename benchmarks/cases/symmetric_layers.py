"""The spiral: descent on a scale-invariant layer, and the flows that follow it."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

from benchmarks.harness import Case, Peer, Run
from benchmarks.remote import Elsewhere
from fpbook.symmetric_layers import spiral_descent, spiral_flow

Array = NDArray[np.float64]

START, GRADIENT, RATE, DECAY = 1.5, 1.0, 0.5, 0.1

# --- descent ------------------------------------------------------------------------


def _descent(steps: int) -> Run:
    return lambda: spiral_descent(np.array([START, 0.0]), GRADIENT, RATE, DECAY, steps)


def _plain_descent(steps: int) -> Run:
    """Loop over elements of an array, as one would write it."""

    def run() -> Array:
        z = np.empty(steps + 1, dtype=complex)
        z[0] = START
        for k in range(steps):
            z[k + 1] = z[k] * (1 - RATE * DECAY - 1j * RATE * GRADIENT / abs(z[k]) ** 2)
        return np.column_stack([z.real, z.imag])

    return run


def _compiled_descent(steps: int) -> Run:
    loop = _compiled_loop()
    return lambda: np.column_stack(loop(steps))


@cache
def _compiled_loop() -> Any:
    from numba import njit

    @njit
    def loop(steps: int) -> Any:
        z = np.empty(steps + 1, dtype=np.complex128)
        z[0] = START
        for k in range(steps):
            advance = RATE * GRADIENT / (z[k].real ** 2 + z[k].imag ** 2)
            z[k + 1] = z[k] * (1 - RATE * DECAY - 1j * advance)
        return z.real, z.imag

    return loop


def _distance_from_equilibrium(path: Array, steps: int) -> float:
    """Of the last step: its radius and its angle, which all steps lead to."""
    z = path @ [1, 1j]
    radius = (RATE * GRADIENT**2 / (2 * DECAY - RATE * DECAY**2)) ** 0.25
    angle = np.arccos(1 - RATE * DECAY)
    errors = [abs(z[-1]) / radius - 1, -np.angle(z[-1] / z[-2]) / angle - 1]
    return float(np.abs(errors).max())


# --- the flow with one counter term -------------------------------------------------


def _flow(steps: int) -> Run:
    start = np.array([START, 0.0])
    return lambda: spiral_flow(start, GRADIENT, RATE, DECAY, steps, 1)


def _plain_flow(steps: int) -> Run:
    """Integrate the position in the plane, by the method of the same order."""

    def velocity(_: float, z: Array) -> Array:
        square = z @ z
        growth = RATE * GRADIENT**2 / square**2 - 2 * DECAY - RATE * DECAY**2
        turned = np.array([z[1], -z[0]])
        return np.asarray(growth / 2 * z + GRADIENT / square * turned)

    def run() -> Array:
        times = RATE * np.arange(steps + 1)
        start = np.array([START, 0.0])
        options = {"rtol": 1e-12, "atol": 1e-12, "t_eval": times}
        solved = solve_ivp(velocity, (0, times[-1]), start, "DOP853", **options)
        return np.asarray(solved.y.T)

    return run


def _torch_flow(steps: int) -> Run:
    import torch
    from torchdiffeq import odeint

    times = RATE * torch.arange(steps + 1, dtype=torch.float64)
    start = torch.tensor([START, 0.0], dtype=torch.float64)

    def velocity(_: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        square = z @ z
        growth = RATE * GRADIENT**2 / square**2 - 2 * DECAY - RATE * DECAY**2
        turned = torch.stack([z[1], -z[0]])
        return growth / 2 * z + GRADIENT / square * turned

    def run() -> Array:
        with torch.no_grad():
            # Between its steps it is less accurate than at their ends.
            path = odeint(
                velocity, start, times, rtol=1e-14, atol=1e-14, method="dopri8"
            )
        return np.asarray(path)

    return run


def _flow_inputs(steps: int) -> dict[str, Any]:
    constants = {"gradient": GRADIENT, "rate": RATE, "decay": DECAY}
    return {**constants, "start": [START, 0.0], "times": RATE * np.arange(steps + 1)}


def _error_of_flow(path: Array, steps: int) -> float:
    """Against the solution: r^4 relaxes exponentially, the angle is a logarithm."""
    t = RATE * np.arange(steps + 1)
    k = 4 * DECAY + 2 * RATE * DECAY**2
    rest = 2 * RATE * GRADIENT**2 / k
    fourth = rest + (START**4 - rest) * np.exp(-k * t)
    r2, a = fourth**0.5, rest**0.5
    turned = (2 * np.log((r2 + a) / (r2[0] + a)) + k * t) / (k * a)
    exact = r2**0.5 * np.exp(-1j * GRADIENT * turned)
    return float(np.abs(path @ [1, 1j] - exact).max())


CASES = (
    Case(
        name="spiral descent",
        module="symmetric_layers",
        kernel="spiral_descent",
        measures="Gradient descent with weight decay on a spiral, step by step.",
        size_name="steps",
        sizes=(1000, 3000, 10_000, 30_000, 100_000),
        setup=_descent,
        exact="radius and angle of the equilibrium",
        error_name="relative error",
        error=_distance_from_equilibrium,
        tolerance=1e-12,
        reference=Peer("numpy, element by element", _plain_descent),
        peers=(Peer("numba", _compiled_descent, "numba"),),
    ),
    Case(
        name="spiral flow",
        module="symmetric_layers",
        kernel="spiral_flow",
        measures="Flow with one counter term on a spiral, at the times of the steps.",
        size_name="steps",
        sizes=(50, 100, 200, 400, 800),
        setup=_flow,
        exact="solution in closed form",
        error_name="largest distance",
        error=_error_of_flow,
        tolerance=1e-9,
        reference=Peer("scipy, DOP853 in the plane", _plain_flow),
        peers=(
            Peer("torchdiffeq, dopri8 to 1e-14", _torch_flow, "torchdiffeq"),
            Peer("diffrax, Dopri8", Elsewhere("spiral_flow", _flow_inputs), "diffrax"),
        ),
    ),
)
