"""Cost of tangent kernels and of derivative correlations, next to their errors.

Prints, for networks with two hidden layers, erf and random weights,

- the tangent kernel of m inputs: ``fpbook.tangent_kernel``, the explicit Jacobian of
  torch, kernel-vector products, and the modes of neural-tangents;
- the Taylor coefficients along a step of ``fpbook.weak_correlations`` and from nested
  forward mode;
- the contractions g^T H g and T(g, g, g) of the second and the third derivative with
  the gradient of one output, and from repeated backward mode;
- the growth of the cost with the width.

Times are medians of CPU time, summed over threads; torch has one. Run it from the root
of the repository; it takes up to 8 GB. Without neural-tangents it leaves that out:

    python benchmarks/tangent_kernel.py

neural-tangents needs an environment of its own, for it needs old versions of others;
these work together on Python 3.11: ``neural-tangents==0.6.5 jax==0.4.34 jaxlib==0.4.34
tf2jax==0.3.6``, beside what fpbook needs. Its mode ``STRUCTURED_DERIVATIVES`` fails
there, as it reads two names that jax has moved; they are put back here, because it is
the fastest. It compiles before the clock starts.

Targets: the kernel 20 times as fast as from the explicit Jacobian and as from
neural-tangents, in 0.02 s and 50 MB at width 1024 and in 1 s at width 4096, m = 32;
the contractions in 0.03 s and 0.045 s, at a size that is not on record: width 4096 is
taken here, where double backward takes about the 0.5 s that are.
"""

import math
import multiprocessing
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

os.environ.update(OMP_NUM_THREADS="1", JAX_PLATFORMS="cpu", TF_CPP_MIN_LOG_LEVEL="3")
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, jvp, vjp, vmap

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fpbook.networks import Network, mlp
from fpbook.tangent_kernel import COPIES_OF_A_JACOBIAN, empirical, empirical_of
from fpbook.weak_correlations import taylor_coefficients

# torch compiles its forward-mode formulas with torch.jit, which it deprecates.
warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated")

Run = Callable[[], Tensor]
Maker = Callable[[int], Run]
"""Makes the run at a width."""
Weights = tuple[tuple[Tensor, Tensor], ...]
"""Weights and biases, layer by layer."""

DOUBLE, SINGLE = torch.float64, torch.float32
SIZES = [(1024, 32), (1024, 256), (4096, 32)]
WIDTHS = (512, 1024, 2048, 4096)
INPUT_DIM, SIGMA_B = 32, 0.1

ROUNDS = 5
SHORT = 0.05
"""Seconds below which a run is repeated ten times as often."""
PATIENCE = 4.0
"""Seconds of runs after which a method sits out the rounds that are left."""

STATUS, CLEAR_PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")

# --- problems -----------------------------------------------------------------------


class Problem(NamedTuple):
    """A network, its parameters and inputs; weights and function for plain torch."""

    network: Network
    params: Tensor
    inputs: Tensor
    weights: Weights
    function: Callable[[Weights, Tensor], Tensor]


def make_problem(width: int, points: int, dtype: torch.dtype) -> Problem:
    network = mlp(width, 2, "erf", INPUT_DIM, seed=0, sigma_b=SIGMA_B)
    params = network.params.to(dtype)
    layers = network.layers(params)
    # A tensor for each layer suits torch: it differentiates one flat vector, or views
    # of it, several times as slowly, for every part then has gradients of full length.
    weights = tuple((layer.weight.clone(), layer.bias.clone()) for layer in layers)
    multipliers = [(layer.weight_multiplier, layer.bias_multiplier) for layer in layers]

    def function(weights: Weights, x: Tensor) -> Tensor:
        hidden = x
        pairs = zip(weights, multipliers, strict=True)
        for number, ((weight, bias), (m, c)) in enumerate(pairs):
            hidden = torch.special.erf(hidden) if number else x
            hidden = m * (hidden @ weight.T) + c * bias
        return hidden[..., 0]

    return Problem(network, params, normal(points, INPUT_DIM, dtype), weights, function)


def normal(points: int, columns: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(points, columns, generator=generator, dtype=DOUBLE).to(dtype)


# --- kernels ------------------------------------------------------------------------


def structured(problem: Problem) -> Tensor:
    return empirical(problem.network, problem.params, problem.inputs)


def jacobian_by_hand(problem: Problem) -> Tensor:
    """Sum over the tensors of J J^T, of the explicit Jacobian J."""
    gradients = vmap(grad(problem.function), (None, 0))
    blocks = [
        block.flatten(1)
        for layer in gradients(problem.weights, problem.inputs)
        for block in layer
    ]
    return torch.stack([J @ J.T for J in blocks]).sum(0)


def general(problem: Problem, memory: float) -> Tensor:
    function, weights, inputs = problem.function, problem.weights, problem.inputs
    return empirical_of(function, weights, inputs, memory=memory)


def jacobian_of(problem: Problem) -> Tensor:
    return general(problem, math.inf)


def columns_of(problem: Problem) -> Tensor:
    """One column after the other, as there is memory for one gradient only."""
    gradient = problem.params.numel() * problem.params.element_size()
    return general(problem, COPIES_OF_A_JACOBIAN * gradient)


KERNELS: dict[str, tuple[Callable[[Problem], Tensor] | str, torch.dtype]] = {
    "empirical, float64": (structured, DOUBLE),
    "empirical, float32": (structured, SINGLE),
    "torch J J^T, float64": (jacobian_by_hand, DOUBLE),
    "torch J J^T, float32": (jacobian_by_hand, SINGLE),
    "empirical_of, J J^T": (jacobian_of, SINGLE),
    "empirical_of, columns": (columns_of, SINGLE),
}
OWN = {DOUBLE: "empirical, float64", SINGLE: "empirical, float32"}
EXACT = "torch J J^T, float64"
EXPLICIT = ("torch J J^T, float32", "empirical_of, J J^T")

try:
    import jax
    import neural_tangents
    from jax._src import source_info_util
    from jax.interpreters import ad
    from neural_tangents import stax
except ImportError:
    MODES = []
else:
    ad.source_info_util, ad.config = source_info_util, jax.config
    MODES = ["JACOBIAN_CONTRACTION", "NTK_VECTOR_PRODUCTS", "STRUCTURED_DERIVATIVES"]
PEERS = [f"nt, {mode}" for mode in MODES]
KERNELS |= {f"nt, {mode}": (mode, SINGLE) for mode in MODES}


def make_kernel(width: int, points: int, name: str) -> Run:
    method, dtype = KERNELS[name]
    problem = make_problem(width, points, dtype)
    if isinstance(method, str):
        return compiled_peer(problem, method)
    return partial(method, problem)


def compiled_peer(problem: Problem, mode: str) -> Run:
    """Build the same network with the same weights, and compile its kernel."""
    network, layers, weights = problem.network, [], list[Any]()
    pairs = zip(network.shapes, problem.weights, strict=True)
    for number, ((size, _), (weight, bias)) in enumerate(pairs):
        if number:
            layers.append(stax.Erf())
            weights.append(())
        layers.append(stax.Dense(size, network.sigma_w, network.sigma_b))
        weights.append((jax.numpy.array(weight.T), jax.numpy.array(bias[None])))
    _, function, _ = stax.serial(*layers)
    # Its hint that inputs do not mix makes two of the modes several times as fast.
    kernel = neural_tangents.empirical_ntk_fn(
        function, vmap_axes=0, implementation=neural_tangents.NtkImplementation[mode]
    )
    inputs = jax.numpy.array(problem.inputs)
    compute = jax.jit(kernel).lower(inputs, None, weights).compile()
    return lambda: torch.from_numpy(np.array(compute(inputs, None, weights)))


# --- derivatives along a step -------------------------------------------------------


class Step(NamedTuple):
    """Inputs to train on and to look at, and the residual of the former."""

    train: Tensor
    look: Tensor
    residual: Tensor
    problem: Problem


def make_step(width: int, points: int, dtype: torch.dtype) -> Step:
    """Of a single point, the step is along the gradient of the output looked at."""
    problem = make_problem(width, 2 * points, dtype)
    train, look = problem.inputs.split(points)
    residual = normal(points, 1, dtype)[:, 0]
    if points == 1:
        look, residual = train, torch.ones_like(residual)
    return Step(train, look, residual, problem)


def make_series(width: int, points: int, order: int, dtype: torch.dtype) -> Run:
    train, look, residual, (network, params, *_) = make_step(width, points, dtype)
    return lambda: taylor_coefficients(network, params, train, residual, look, order)


def make_nested(width: int, points: int, order: int, dtype: torch.dtype) -> Run:
    """All orders from one pass of nested forward mode."""
    train, look, residual, problem = make_step(width, points, dtype)
    function, weights = problem.function, problem.weights
    zero, one = torch.zeros((), dtype=dtype), torch.ones((), dtype=dtype)

    def run() -> Tensor:
        (direction,) = vjp(lambda w: function(w, train), weights)[1](residual)

        def along(s: Tensor) -> tuple[Tensor, ...]:
            pairs = zip(weights, direction, strict=True)
            moved = tuple((w + s * v, b + s * c) for (w, b), (v, c) in pairs)
            return (function(moved, look),)

        derivatives = along
        for _ in range(order):
            derivatives = partial(append_derivative, derivatives, one)
        found = enumerate(derivatives(zero))
        return torch.stack([f / math.factorial(k) for k, f in found])

    return run


def append_derivative(
    derivatives: Callable[[Tensor], tuple[Tensor, ...]], one: Tensor, s: Tensor
) -> tuple[Tensor, ...]:
    values, slopes = jvp(derivatives, (s,), (one,))
    return (*values, slopes[-1])


def make_backward(width: int, order: int, dtype: torch.dtype) -> Run:
    """Backward mode once for each order, along the gradient of one output."""
    _, look, _, problem = make_step(width, 1, dtype)
    leaves = [t.requires_grad_() for pair in problem.weights for t in pair]

    def run() -> Tensor:
        value = problem.function(problem.weights, look)[0]
        found, direction = [value.detach()], list[Tensor]()
        for k in range(1, order + 1):
            slope = torch.autograd.grad(
                value, leaves, create_graph=k < order, materialize_grads=True
            )
            direction = direction or [part.detach() for part in slope]
            parts = zip(slope, direction, strict=True)
            value = torch.stack([(a * b).sum() for a, b in parts]).sum()
            found.append(value.detach() / math.factorial(k))
        return torch.stack(found)[:, None]

    return run


# --- measurements -------------------------------------------------------------------


class Measured(NamedTuple):
    """Median CPU seconds, the number of runs, and what the first of them returned."""

    seconds: float
    runs: int
    result: Tensor


def measure(runs: dict[str, Run]) -> dict[str, Measured]:
    """Time each; the repetitions are interleaved."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    results: dict[str, Tensor] = {}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            seen = times[name]
            if sum(seen) < PATIENCE:
                count = 10 if min(seen, default=math.inf) < SHORT else 1
                for _ in range(count):
                    start = time.process_time()
                    result = run()
                    seen.append(time.process_time() - start)
                    results.setdefault(name, result)
    return {
        name: Measured(statistics.median(seen), len(seen), results[name])
        for name, seen in times.items()
    }


def sweep(makers: dict[str, Maker], widths: Sequence[int]) -> list[dict[str, Measured]]:
    """Measure at each width; torch has loaded what it needs before."""
    for make in makers.values():
        make(8)()
    return [
        measure({name: make(width) for name, make in makers.items()})
        for width in widths
    ]


def peak_memory(
    make: Callable[..., Run], width: int, arguments: Sequence[Any]
) -> float:
    """Megabytes that one run adds to its problem; in a process of its own."""
    torch.set_num_threads(1)
    make(8, *arguments)()  # torch loads what it needs
    run = make(width, *arguments)
    CLEAR_PEAK.write_text("5")
    before = peak_resident_size()
    run()
    return peak_resident_size() - before


def peak_resident_size() -> float:
    """Megabytes. Linux only: getrusage would inherit the peak of the parent."""
    (line,) = [s for s in STATUS.read_text().splitlines() if s.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def added_memory(make: Callable[..., Run], width: int, *arguments: Any) -> float:
    """What ``peak_memory`` says, or NaN where the peak cannot be cleared."""
    if not CLEAR_PEAK.exists():
        return math.nan
    # Forks of one process that has imported what is slow to import, and no more.
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["torch.func", "neural_tangents"])
    with ProcessPoolExecutor(1, mp_context=server) as pool:
        return pool.submit(peak_memory, make, width, arguments).result()


def error(measured: Tensor, exact: Tensor) -> str:
    """Relative error, for a table."""
    if measured is exact:
        return "exact"
    return f"{(measured - exact).norm() / exact.norm():.0e}"


def row(*cells: str | float) -> None:
    """Print a line of a table; text of the first column is longest."""
    texts = [c if isinstance(c, str) else f"{c:.3g}" for c in cells]
    print(f"  {texts[0]:28}" + "".join(f"{text:>10}" for text in texts[1:]), flush=True)


def target(what: str, value: float, bound: float, *, at_least: bool = False) -> None:
    met = value >= bound if at_least else value <= bound
    sign, verdict = ">=" if at_least else "<=", "met" if met else "MISSED"
    print(f"  {what}: {value:.3g}, target {sign} {bound:g}: {verdict}", flush=True)


# --- reports ------------------------------------------------------------------------


def kernels(width: int, points: int) -> None:
    print(f"\ntangent kernel, width {width}, m = {points}")
    runs, making = {}, dict[str, float]()
    for name in KERNELS:
        start = time.perf_counter()
        runs[name] = make_kernel(width, points, name)
        making[name] = time.perf_counter() - start
    found = measure(runs)
    runs.clear()
    exact = found[EXACT].result
    megabytes = {n: added_memory(make_kernel, width, points, n) for n in KERNELS}
    row("", "CPU s", "ratio", "runs", "MB added", "error")
    for name, (seconds, count, result) in found.items():
        ratio = seconds / found[OWN[KERNELS[name][1]]].seconds
        cells = str(count), f"{megabytes[name]:.0f}", error(result, exact)
        row(name, seconds, ratio, *cells)

    double, single = (found[OWN[dtype]].seconds for dtype in (DOUBLE, SINGLE))
    fastest = min(found[name].seconds for name in EXPLICIT)
    ratios = {
        "explicit J of torch / empirical, float64": found[EXACT].seconds / double,
        "explicit J of torch / empirical, float32": fastest / single,
    }
    if PEERS:
        as_installed, repaired = (
            min(found[name].seconds for name in names) for names in (PEERS[:2], PEERS)
        )
        ratios["nt as installed / empirical, float32"] = as_installed / single
        ratios["nt repaired / empirical, float32"] = repaired / single
        spans = ", ".join(f"{making[name]:.1f}" for name in PEERS)
        print(f"  not counted: {spans} s that nt takes to compile")
    for name, ratio in ratios.items():
        target(name, ratio, 20, at_least=True)
    if (width, points) == (1024, 32):
        target("seconds, float64", double, 0.02)
        target("MB, float64", megabytes[OWN[DOUBLE]], 50)
    if (width, points) == (4096, 32):
        target("seconds, float64", double, 1)


def series() -> None:
    print("\nTaylor coefficients: 6 inputs trained on, 6 looked at, float64, CPU s")
    widths = WIDTHS[1:]
    row("width", *map(str, widths))
    makers: dict[str, Maker] = {}
    for p in (3, 5):
        makers[f"taylor_coefficients {p}"] = partial(
            make_series, points=6, order=p, dtype=DOUBLE
        )
        makers[f"nested jvp {p}"] = partial(
            make_nested, points=6, order=p, dtype=DOUBLE
        )
    # Nesting takes 2^order passes and as much memory.
    costly = makers.pop("nested jvp 5")
    found = sweep(makers, widths)
    found[0] |= sweep({"nested jvp 5": costly}, widths[:1])[0]
    for name in (*makers, "nested jvp 5"):
        row(name, *[at[name].seconds if name in at else "-" for at in found])
    for p in (3, 5):
        ours, theirs = f"taylor_coefficients {p}", f"nested jvp {p}"
        both = [(at[ours], at[theirs]) for at in found if theirs in at]
        row(f"ratio of order {p}", *[b.seconds / a.seconds for a, b in both])
        row(f"difference in f_{p}", *[error(a.result[p], b.result[p]) for a, b in both])
    ours = added_memory(make_series, widths[-1], 6, 5, DOUBLE)
    theirs = added_memory(make_nested, widths[-1], 6, 3, DOUBLE)
    print(
        f"  MB added at width {widths[-1]}: {ours:.0f} by taylor_coefficients 5, "
        f"{theirs:.0f} by nested jvp 3"
    )


def contractions() -> None:
    print("\ncontractions of one output with its gradient, CPU s")
    widths = (1024, 4096)
    row("width", *map(str, widths), "error")
    makers: dict[str, Maker] = {}
    names = {2: "g^T H g", 3: "T(g, g, g)"}
    for p, contraction in names.items():
        for dtype, kind in ((DOUBLE, "64"), (SINGLE, "32")):
            makers[f"fpbook, {contraction}, {kind}"] = partial(
                make_series, points=1, order=p, dtype=dtype
            )
            makers[f"torch, {contraction}, {kind}"] = partial(
                make_backward, order=p, dtype=dtype
            )
    found = sweep(makers, widths)
    highest = {name: measured.result[-1] for name, measured in found[-1].items()}
    for name in makers:
        p = 2 if names[2] in name else 3
        exact = highest[f"torch, {names[p]}, 64"]
        row(name, *[at[name].seconds for at in found], error(highest[name], exact))
    for p, bound in ((2, 0.03), (3, 0.045)):
        for kind in ("64", "32"):
            ours, theirs = (
                found[-1][f"{library}, {names[p]}, {kind}"].seconds
                for library in ("fpbook", "torch")
            )
            target(f"seconds of {names[p]}, {kind} bits, width 4096", ours, bound)
            print(f"  backward mode of torch takes {theirs / ours:.0f} times as long")
    ours = added_memory(make_series, widths[-1], 1, 3, DOUBLE)
    theirs = added_memory(make_backward, widths[-1], 3, DOUBLE)
    print(
        f"  MB added by T(g, g, g) at width {widths[-1]}, float64: {ours:.0f} by "
        f"fpbook, {theirs:.0f} by torch"
    )


def growth() -> None:
    print("\ngrowth with the width n: CPU s, and the exponent fitted")
    row("width", *map(str, WIDTHS), "exponent")
    chosen = [*OWN.values(), EXPLICIT[0], *PEERS[-1:]]
    makers: dict[str, Maker] = {
        name: partial(make_kernel, points=32, name=name) for name in chosen
    }
    makers["taylor_coefficients 5"] = partial(
        make_series, points=6, order=5, dtype=DOUBLE
    )
    found = sweep(makers, WIDTHS)
    for name in makers:
        seconds = [at[name].seconds for at in found]
        exponent = np.polyfit(np.log(WIDTHS), np.log(seconds), 1)[0]
        row(name, *seconds, f"n^{exponent:.2f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, medians of CPU time, m inputs of {INPUT_DIM}")
    if not PEERS:
        print("neural-tangents (nt) cannot be imported: skipped")
    for name in KERNELS:
        make_kernel(8, 2, name)()  # torch loads what it needs
    for size in SIZES:
        kernels(*size)
    series()
    contractions()
    growth()
