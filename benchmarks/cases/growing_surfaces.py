"""Surfaces that grow by chance, with the random numbers of the same seed."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Case, Peer, Run, Target
from fpbook.growing_surfaces import last_passage

Array = NDArray[np.float64]

STEPS, SEED = 128, 1
PLACES = (0, 1, 7)
"""Sites whose paths are followed back for the error."""

# --- last passage -------------------------------------------------------------------


def _last_passage(sites: int) -> Run:
    return lambda: last_passage(sites, STEPS, SEED)[0]


def _plain_last_passage(sites: int) -> Run:
    """Loop as one would write it: new arrays in every step."""

    def run() -> Array:
        rng = np.random.default_rng(SEED)
        h = np.zeros(sites)
        for _ in range(STEPS):
            h = np.maximum(h, np.roll(h, 1)) + rng.exponential(size=sites)
        return np.roll(h, -(STEPS // 2))

    return run


def _compiled_last_passage(sites: int) -> Run:
    """Loop over sites, in place, with the same generator."""
    grow = _compiled_growth()

    def run() -> Array:
        h = grow(np.zeros(sites), STEPS, np.random.default_rng(SEED))
        return np.roll(h, -(STEPS // 2))

    return run


@cache
def _compiled_growth() -> Any:
    from numba import njit

    @njit  # type: ignore[untyped-decorator,unused-ignore]
    def grow(h: Array, steps: int, rng: np.random.Generator) -> Array:
        for _ in range(steps):
            before = h[-1]
            for x in range(len(h)):
                now = h[x]
                h[x] = max(now, before) + rng.standard_exponential()
                before = now
        return h

    return grow


@cache
def _heaviest_paths(sites: int) -> Array:
    """Weights of the heaviest paths to a few sites, followed back from each."""
    weights = np.random.default_rng(SEED).standard_exponential((STEPS, sites))
    found = []
    for place in PLACES:
        # Of the paths that reach the place, what they gain after the step looked at.
        gained = np.zeros(1)
        for step in range(STEPS - 1, -1, -1):
            back = STEPS - 1 - step
            reached = (place + STEPS // 2 - np.arange(back + 1)) % sites
            gained = gained + weights[step, reached]
            stays, moves = np.append(gained, -np.inf), np.append(-np.inf, gained)
            gained = np.maximum(stays, moves)
        found.append(gained.max())
    return np.array(found)


def _missed(heights: Array, sites: int) -> float:
    exact = _heaviest_paths(sites)
    return float(np.abs(heights[list(PLACES)] / exact - 1).max())


CASES = (
    Case(
        name="last passage",
        module="growing_surfaces",
        kernel="last_passage",
        measures=f"A flat surface with exponential weights grows for {STEPS} steps.",
        size_name="sites",
        sizes=(2**10, 2**12, 2**13, 2**14, 2**15, 2**16),
        setup=_last_passage,
        exact="heaviest paths to three sites, followed back",
        error_name="relative error",
        error=_missed,
        tolerance=1e-12,
        reference=Peer("numpy, new arrays in every step", _plain_last_passage),
        peers=(Peer("numba, loop over sites", _compiled_last_passage, "numba"),),
        # 20 ns for each site and step.
        target=Target(size=2**16, seconds=20e-9 * 2**16 * STEPS),
    ),
)
