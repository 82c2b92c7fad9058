"""Cost of the field of the Equation of Motion, in plain gradients of the same run.

Prints, for two tanh networks and on one thread, the median CPU time of one field
evaluation of order 1, 2 and 3 as a multiple of one gradient, next to the error
reached, and the peak memory of order 3. Run it from the root of the repository:

    python benchmarks/equation_of_motion.py

Target: ``burst_field`` of order 3 in at most 6 gradients at 5 x 10^5 parameters.
"""

import math
import multiprocessing
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

# The summed series has no public function: equation_of_motion integrates it. The
# checks are private too, and timed because burst_field pays for them at every call.
from fpbook.equation_of_motion import (
    Loss,
    _check_problem,
    _Differentials,
    _eom_terms,
    burst_field,
    modified_equation,
)

# torch compiles its forward-mode formulas with torch.jit, which it deprecates.
warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated")

BATCH = 256
NETWORKS = [(64, 64, 64, 10), (784, 512, 256, 10)]
ORDERS = (1, 2, 3)
REPETITIONS = 7
LEARNING_RATE_TIMES_CURVATURE = 0.2
STATUS, CLEAR_PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")

Method = Callable[[], object]


def tanh_network(widths: tuple[int, ...]) -> tuple[Loss, Tensor]:
    """Mean squared error of a tanh network on random data, and its parameters."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    inputs = normal(BATCH, widths[0])
    targets = torch.tanh(normal(BATCH, widths[-1]))
    pairs = list(pairwise(widths))
    shapes = [shape for pair in pairs for shape in (pair, (pair[1],))]
    sizes = [math.prod(shape) for shape in shapes]

    def loss(theta: Tensor) -> Tensor:
        pieces = [
            piece.view(shape)
            for piece, shape in zip(theta.split(sizes), shapes, strict=True)
        ]
        hidden = inputs
        for weight, bias in zip(pieces[:-2:2], pieces[1:-2:2], strict=True):
            hidden = torch.tanh(hidden @ weight + bias)
        return (hidden @ pieces[-2] + pieces[-1] - targets).square().mean()

    weights = [normal(a, b) / a**0.5 for a, b in pairs]
    start = [part for w in weights for part in (w.flatten(), torch.zeros(w.shape[1]))]
    return loss, torch.cat(start)


def gradient(loss: Loss, theta: Tensor) -> Tensor:
    position = theta.clone().requires_grad_(True)
    (value,) = torch.autograd.grad(loss(position), position)
    return value


def series_field(loss: Loss, theta: Tensor, eta: float, order: int) -> Tensor:
    """Sum the series as ``equation_of_motion`` does at every call of its field."""
    return _Differentials(loss, theta).combine(_eom_terms(eta, order))


def nested_jvp_field(loss: Loss, theta: Tensor, eta: float, order: int) -> Tensor:
    """Sum the same series from forward mode over reverse mode, written out by hand."""

    def force(x: Tensor) -> Tensor:
        return -torch.func.grad(loss)(x)

    def along(function: Callable[[Tensor], Tensor], v: Tensor) -> Tensor:
        return torch.func.jvp(function, (theta,), (v,))[1]

    f = force(theta)
    b = along(force, f)
    field = f - eta * b / 2
    if order >= 2:
        c = along(force, b)
        d = along(lambda x: torch.func.jvp(force, (x,), (f,))[1], f)
        field = field + eta**2 * (c / 3 + d / 12)
    if order >= 3:
        e = along(lambda x: torch.func.jvp(force, (x,), (f,))[1], b)
        field = field - eta**3 * (e / 12 + along(force, d / 12 + c / 4))
    return field


FIELDS = {
    "series": series_field,
    "series, nested jvp": nested_jvp_field,
    "burst_field": burst_field,
}


def largest_curvature(loss: Loss, theta: Tensor) -> float:
    """Largest absolute eigenvalue of the Hessian, by the power method."""
    position = theta.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(loss(position), position, create_graph=True)
    direction, size = slope.detach(), 0.0
    for _ in range(30):
        direction = direction / direction.norm()
        (direction,) = torch.autograd.grad(
            slope, position, direction, retain_graph=True
        )
        size = float(direction.norm())
    return size


def cpu_times(methods: dict[str, Method]) -> dict[str, float]:
    """Median CPU seconds of each method; the repetitions are interleaved."""
    for method in methods.values():
        method()
    times: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(REPETITIONS):
        for name, method in methods.items():
            start = time.process_time()
            method()
            times[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def peak_memory(widths: tuple[int, ...], name: str, eta: float) -> float:
    """Megabytes that one evaluation of order 3 adds; in a process of its own."""
    torch.set_num_threads(1)

    def evaluate(problem: tuple[Loss, Tensor]) -> None:
        if name == "gradient":
            gradient(*problem)
        else:
            FIELDS[name](*problem, eta, 3)

    problem = tanh_network(widths)
    evaluate(tanh_network((4, 4, 4, 4)))  # torch loads what it needs
    CLEAR_PEAK.write_text("5")
    before = peak_resident_size()
    evaluate(problem)
    return peak_resident_size() - before


def peak_resident_size() -> float:
    """Megabytes. Linux only: getrusage would inherit the peak of the parent."""
    (line,) = [s for s in STATUS.read_text().splitlines() if s.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def relative_error(measured: Tensor, exact: Tensor) -> float:
    return float((measured - exact).norm() / exact.norm())


def report(widths: tuple[int, ...]) -> None:
    loss, theta = tanh_network(widths)
    eta = LEARNING_RATE_TIMES_CURVATURE / largest_curvature(loss, theta)

    methods: dict[str, Method] = {"gradient": lambda: gradient(loss, theta)}
    for p in ORDERS:
        for name, field in FIELDS.items():
            methods[f"{name} {p}"] = lambda f=field, p=p: f(loss, theta, eta, p)
        methods[f"modified_equation {p}"] = lambda p=p: modified_equation(
            loss, theta, p
        )
    methods["checks"] = lambda: _check_problem(loss, theta)
    seconds = cpu_times(methods)
    unit = seconds["gradient"]

    print(f"\n{'-'.join(map(str, widths))}: {theta.numel()} parameters, batch {BATCH}")
    print(
        f"one gradient {1e3 * unit:.2f} ms; eta = {eta:.3g}, "
        f"eta * lambda_max = {LEARNING_RATE_TIMES_CURVATURE}"
    )
    print("\nCPU time in gradients             order 1   order 2   order 3")
    for name in (*FIELDS, "modified_equation"):
        cells = "".join(f"{seconds[f'{name} {p}'] / unit:10.1f}" for p in ORDERS)
        print(f"  {name:29}{cells}")
    print(f"  checks inside burst_field    {seconds['checks'] / unit:10.2f}")

    # The burst of order 9 errs by (eta lambda)^10 = 1e-7: the exact field here.
    exact = burst_field(loss, theta, eta, 9)
    fields = {
        (name, p): field(loss, theta, eta, p)
        for name, field in FIELDS.items()
        for p in ORDERS
    }
    print("\nrelative error of the field       order 1   order 2   order 3")
    for name in FIELDS:
        cells = "".join(
            f"{relative_error(fields[name, p], exact):10.1e}" for p in ORDERS
        )
        print(f"  {name:29}{cells}")
    for name in ("burst_field", "series, nested jvp"):
        cells = "".join(
            f"{relative_error(fields[name, p], fields['series', p]):10.1e}"
            for p in ORDERS
        )
        print(f"  {name + ' - series':29}{cells}")

    if not CLEAR_PEAK.exists():
        return
    spawn = multiprocessing.get_context("spawn")
    print("\nmemory added by one evaluation of order 3, MB")
    for name in ("gradient", *FIELDS):
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            megabytes = pool.submit(peak_memory, widths, name, eta).result()
        print(f"  {name:29}{megabytes:10.0f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, median of {REPETITIONS}")
    for network in NETWORKS:
        report(network)
