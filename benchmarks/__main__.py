"""Measure the kernels: ``python -m benchmarks [-k WORD] [--output FILE]``."""

import os

# Before numpy is imported: libraries read these when they load.
os.environ.update(
    OMP_NUM_THREADS="1",
    OPENBLAS_NUM_THREADS="1",
    MKL_NUM_THREADS="1",
    NUMBA_NUM_THREADS="1",
    FIPY_SOLVERS="scipy",
    FPBOOK_STATIC="1",
    JAX_PLATFORMS="cpu",
    JAX_ENABLE_X64="1",
    TF_CPP_MIN_LOG_LEVEL="3",
    XLA_FLAGS="--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
)

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

from benchmarks.cases import CASES
from benchmarks.harness import chosen, measure, one_thread
from benchmarks.report import described, machine, table

OUTPUT = Path(__file__).parent / "last_run.json"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("-k", metavar="WORD", default="", help="only cases with it")
    parser.add_argument("--output", type=Path, help=f"file to write, not {OUTPUT.name}")
    arguments = parser.parse_args()
    cases = list(chosen(CASES, arguments.k))
    if not cases:
        parser.error(f"no case has {arguments.k!r} in its name or module")
    one_thread()
    start = time.perf_counter()
    measured = []
    for case in cases:
        entry = described(case, [asdict(series) for series in measure(case)])
        measured.append(entry)
        print(table(entry), flush=True)
    print(f"{len(cases)} cases in {(time.perf_counter() - start) / 60:.1f} minutes")
    output = arguments.output or (None if arguments.k else OUTPUT)
    if output is not None:
        run = {"machine": machine(), "cases": measured}
        output.write_text(json.dumps(run, indent=1) + "\n", "utf-8")
    else:
        print("a part of the cases: nothing is written without --output")


if __name__ == "__main__":
    main()
