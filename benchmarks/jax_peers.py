"""Peers that JAX runs, in an environment of their own; see ``benchmarks.remote``.

A function gets the arrays of the case and returns the call to time, which has to wait
for its result. JAX is imported inside: this file is read without it, too.
"""

from collections.abc import Callable
from typing import Any

from benchmarks.remote import Arrays, serve

PEERS: dict[str, Callable[[Arrays], Callable[[], Any]]] = {}

if __name__ == "__main__":
    serve(PEERS)
