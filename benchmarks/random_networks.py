"""Cost of random recurrent networks: Lyapunov exponents and gradients of the speed.

Prints, in CPU time on one thread,

- the largest Lyapunov exponent of a network of 1000 neurons, g = 1.5, by the
  Runge-Kutta method with steps of 0.1 over 200 time units, the first 50 of which only
  let the tangent find its place: ``fpbook.random_networks.lyapunov_spectrum``, a plain
  loop of numpy, and JAX, in the same run;
- the gradient of half the squared speed for 32 replicas of it: ``speed_gradient``, the
  formula as one would write it, explicit Jacobians, and gradients by JAX.

Run it from the root of the repository; JAX is left out where it is not installed:

    python benchmarks/random_networks.py

Targets: the exponent in 4 s, and within 3 % of the plain loop's.
"""

import importlib.util
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.update(
    OMP_NUM_THREADS="1",
    FPBOOK_STATIC="1",
    JAX_ENABLE_X64="1",
    JAX_PLATFORMS="cpu",
    XLA_FLAGS="--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
)

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fpbook.random_networks import (
    lyapunov_spectrum,
    random_couplings,
    speed_energy,
    speed_gradient,
)

Array = NDArray[np.float64]
Run = Callable[[], Any]

N, REPLICAS, G = 1000, 32, 1.5
DT, WARM_UP, TIME, BETWEEN = 0.1, 50.0, 150.0, 5
SEED = 1

# --- the exponent -------------------------------------------------------------------


def start() -> tuple[Array, Array]:
    """State and tangent that ``lyapunov_spectrum`` draws from the seed."""
    rng = np.random.default_rng(SEED)
    x, v = rng.standard_normal(N), rng.standard_normal(N)
    return x, v / np.linalg.norm(v)


def plain_exponent(J: Array) -> float:
    """Loop as one would write it: state and tangent one after the other."""

    def velocity(x: Array) -> Array:
        return -x + G * (J @ np.tanh(x))

    def tangent(x: Array, v: Array) -> Array:
        return -v + G * (J @ ((1 - np.tanh(x) ** 2) * v))

    x, v = start()
    growth = 0.0
    before, blocks = round(WARM_UP / DT / BETWEEN), round(TIME / DT / BETWEEN)
    for block in range(before + blocks):
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
        if block >= before:
            growth += np.log(size)
    return float(growth / TIME)


def compiled_exponent(J: Array) -> Run:
    """Compile the same loop by JAX, with tangents from its own derivatives."""
    import jax
    from jax import numpy as jnp

    couplings = jnp.asarray(G * J)

    def velocity(x: Any) -> Any:
        return couplings @ jnp.tanh(x) - x

    def joint(state: Any) -> Any:
        return jnp.stack(jax.jvp(velocity, (state[0],), (state[1],)))

    def step(_: int, state: Any) -> Any:
        one = joint(state)
        two = joint(state + DT / 2 * one)
        three = joint(state + DT / 2 * two)
        four = joint(state + DT * three)
        return state + DT / 6 * (one + 2 * two + 2 * three + four)

    def block(state: Any, _: None) -> Any:
        state = jax.lax.fori_loop(0, BETWEEN, step, state)
        size = jnp.linalg.norm(state[1])
        return state.at[1].divide(size), jnp.log(size)

    before, blocks = round(WARM_UP / DT / BETWEEN), round(TIME / DT / BETWEEN)

    @jax.jit
    def exponent(state: Any) -> Any:
        return jax.lax.scan(block, state, length=before + blocks)[1][before:].sum()

    state = jnp.stack(start())
    return lambda: float(exponent(state)) / TIME


# --- the gradient -------------------------------------------------------------------


def plain_gradient(x: Array, J: Array) -> Array:
    """Formula as one would write it: tanh twice, new arrays for all."""
    F = -x + G * (J @ np.tanh(x))
    gradient: Array = -F + (1 - np.tanh(x) ** 2) * G * (J.T @ F)
    return gradient


def gradient_by_jacobians(x: Array, J: Array) -> Array:
    """One matrix F' for each replica."""
    gradients = []
    for column in x.T:
        phi = np.tanh(column)
        slopes = G * J * (1 - phi**2) - np.eye(N)
        gradients.append(slopes.T @ (G * (J @ phi) - column))
    return np.stack(gradients, axis=1)


def compiled_gradient(x: Array, J: Array) -> Run:
    import jax
    from jax import numpy as jnp

    couplings = jnp.asarray(G * J)

    @jax.jit
    @jax.grad
    def gradient(x: Any) -> Any:
        return ((couplings @ jnp.tanh(x) - x) ** 2).sum() / 2

    states = jnp.asarray(x)
    return lambda: np.asarray(gradient(states).block_until_ready())


# --- measurements -------------------------------------------------------------------


def cpu_seconds(run: Run, calls: int) -> float:
    begin = time.process_time()
    for _ in range(calls):
        run()
    return (time.process_time() - begin) / calls


def medians(runs: dict[str, Run], repetitions: int, calls: int) -> dict[str, float]:
    """Median CPU seconds of a call of each; the repetitions are interleaved."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repetitions):
        for name, run in runs.items():
            times[name].append(cpu_seconds(run, calls))
    return {name: statistics.median(values) for name, values in times.items()}


def row(*cells: str | float) -> None:
    """Print a line of a table; text of the first column is longest."""
    texts = [c if isinstance(c, str) else f"{c:.3g}" for c in cells]
    print(f"  {texts[0]:28}" + "".join(f"{text:>13}" for text in texts[1:]), flush=True)


def target(what: str, value: float, bound: float) -> None:
    verdict = "met" if value <= bound else "MISSED"
    print(f"  {what}: {value:.3g}, target <= {bound:g}: {verdict}", flush=True)


def has_jax() -> bool:
    if importlib.util.find_spec("jax"):
        return True
    print("  JAX is not installed: skipped")
    return False


# --- reports ------------------------------------------------------------------------


def exponents() -> None:
    print(f"\nlargest exponent, N = {N}, g = {G}, {WARM_UP + TIME:g} time units")
    J = random_couplings(N, 0.0, SEED)
    runs: dict[str, Run] = {
        "fpbook": lambda: float(
            lyapunov_spectrum(
                J, G, 1, TIME, dt=DT, warm_up=WARM_UP, between=BETWEEN, seed=SEED
            )[0]
        ),
        "plain numpy": lambda: plain_exponent(J),
    }
    if has_jax():
        runs["JAX, compiled"] = compiled_exponent(J)
    # The first calls compile; all of them have to find the same exponent.
    values = {name: run() for name, run in runs.items()}
    found = medians(runs, repetitions=3, calls=1)
    row("", "CPU s", "ratio", "exponent")
    for name, seconds in found.items():
        row(name, seconds, seconds / found["fpbook"], f"{values[name]:.6f}")
    error = max(abs(value / values["plain numpy"] - 1) for value in values.values())
    target("CPU s", found["fpbook"], 4)
    target("largest relative difference of exponents", error, 0.03)


def gradients() -> None:
    print(f"\ngradient of the speed, N = {N}, {REPLICAS} replicas")
    J = random_couplings(N, 0.0, SEED)
    x = np.random.default_rng(SEED).standard_normal((N, REPLICAS))
    runs: dict[str, Run] = {
        "fpbook": lambda: speed_gradient(x, J, G),
        "plain numpy": lambda: plain_gradient(x, J),
        "explicit Jacobians": lambda: gradient_by_jacobians(x, J),
    }
    if has_jax():
        runs["JAX, compiled"] = compiled_gradient(x, J)
    # Against a derivative along a direction, by differences of fourth order.
    direction, h = np.random.default_rng(2).standard_normal((N, REPLICAS)), 1e-3
    near, far = (
        (speed_energy(x + s, J, G) - speed_energy(x - s, J, G)).sum()
        for s in (h * direction, 2 * h * direction)
    )
    slope = (8 * near - far) / (12 * h)
    errors = {
        name: abs(float((run() * direction).sum()) / slope - 1)
        for name, run in runs.items()
    }
    found = medians(runs, repetitions=7, calls=5)
    row("", "CPU ms", "ratio", "error")
    for name, seconds in found.items():
        row(name, seconds * 1e3, seconds / found["fpbook"], f"{errors[name]:.0e}")
    target("largest error, against differences", max(errors.values()), 1e-7)


if __name__ == "__main__":
    print(f"numpy {np.__version__}, medians")
    exponents()
    gradients()
