"""Peers that need an environment of their own, run by its interpreter.

Lines of JSON go to a process of the other environment and come back from it; arrays are
files of numpy. The other environment has to have numpy, and nothing of fpbook.

``BENCHMARK_JAX_PYTHON`` names the interpreter of an environment with JAX. It runs
``benchmarks/jax_peers.py``, whose ``PEERS`` map a name to a function of a dictionary of
arrays that returns the call to time; ``serve`` answers from there.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
ROOT = Path(__file__).resolve().parents[1]


def jax_python() -> str:
    """Return the interpreter of the environment with JAX; empty if there is none."""
    return os.environ.get("BENCHMARK_JAX_PYTHON", "")


@dataclass(frozen=True)
class Elsewhere:
    """Setup of a peer that another interpreter runs.

    Parameters
    ----------
    function
        Its name in ``benchmarks.jax_peers.PEERS``.
    inputs
        Size -> the arrays that the function is given.
    """

    function: str
    inputs: Callable[[int], Mapping[str, Any]]

    def opened(self, remote: "Remote") -> Callable[[int], "RemoteRun"]:
        """Return the setup of the peer in a process."""

        def setup(size: int) -> RemoteRun:
            remote.setup(self.function, self.inputs(size))
            return RemoteRun(remote)

        return setup


class RemoteRun:
    """A call in the other process; it keeps the CPU seconds that were taken there."""

    cpu_seconds: float

    def __init__(self, remote: "Remote") -> None:
        self.remote = remote

    def __call__(self) -> NDArray[Any]:
        self.cpu_seconds, result = self.remote.run()
        return result


class Remote:
    """A process of the other environment, as a context."""

    def __init__(self, command: list[str] | None = None) -> None:
        self.command = command or [jax_python(), "-m", "benchmarks.jax_peers"]

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory()
        self._process = subprocess.Popen(
            self.command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        return self

    def __exit__(self, *_: object) -> None:
        # At the end of its input it stops.
        self._process.communicate()
        self._folder.cleanup()

    def _ask(self, question: str, **details: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = json.dumps({"question": question, **details}) + "\n"
        self._process.stdin.write(line.encode())
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the process stopped: {' '.join(self.command)}")
        found = json.loads(answer)
        if "failed" in found:
            raise RuntimeError(found["failed"])
        return found["answer"]

    def version(self, distribution: str) -> str:
        """Return the version of a distribution; empty if it is not installed."""
        return str(self._ask("version", distribution=distribution))

    def setup(self, function: str, inputs: Mapping[str, Any]) -> None:
        """Prepare a call; it takes the place of the one before."""
        file = Path(self._folder.name) / "inputs.npz"
        np.savez(file, **inputs)
        self._ask("setup", function=function, file=str(file))

    def run(self) -> tuple[float, NDArray[Any]]:
        """Call once: CPU seconds of the call, and its result."""
        file = Path(self._folder.name) / "result.npy"
        seconds = float(self._ask("run", file=str(file)))
        return seconds, np.load(file)

    def added_memory(self) -> float | None:
        """Measure the memory that one call adds, in 10^6 bytes."""
        return float(self._ask("memory"))


def serve(peers: dict[str, Callable[[Arrays], Callable[[], Any]]]) -> None:
    """Answer questions from the standard input until it ends.

    Parameters
    ----------
    peers
        Name -> function of the input arrays that returns the call to time.
    """
    # What libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    call: Callable[[], Any] = dict
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            match asked["question"]:
                case "version":
                    answer: Any = _version(asked["distribution"])
                case "setup":
                    with np.load(asked["file"]) as file:
                        call = peers[asked["function"]](dict(file))
                    answer = None
                case "run":
                    start = time.process_time()
                    result = call()
                    answer = time.process_time() - start
                    np.save(asked["file"], np.asarray(result))
                case "memory":
                    from benchmarks.harness import peak_of

                    answer = peak_of(call)
                case other:
                    raise ValueError(f"question must be known, got {other}")
            told: dict[str, Any] = {"answer": answer}
        except Exception as error:
            told = {"failed": f"{type(error).__name__}: {error}"}
        print(json.dumps(told), file=answers, flush=True)


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""
