"""Surfaces that grow by chance, with the random numbers of the same seed."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Case, Peer, Run, Target
from fpbook.growing_surfaces import (
    directed_polymer,
    kpz_equation,
    last_passage,
    random_environment_walk,
)

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

    @njit
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


# --- directed polymer ---------------------------------------------------------------

STRENGTH = 0.5


def _polymer(sites: int) -> Run:
    return lambda: directed_polymer(sites, STEPS, SEED, STRENGTH)[0]


def _plain_polymer(sites: int) -> Run:
    """Free energies instead of sums, as one would to be safe from overflow."""

    def run() -> Array:
        rng = np.random.default_rng(SEED)
        h = np.zeros(sites)
        for _ in range(STEPS):
            noise = STRENGTH * rng.standard_normal(sites) - STRENGTH**2 / 2
            h = np.logaddexp(h, np.roll(h, 1)) - np.log(2) + noise
        return np.roll(h, -(STEPS // 2))

    return run


def _compiled_polymer(sites: int) -> Run:
    grow = _compiled_sums()

    def run() -> Array:
        h = grow(np.ones(sites), STEPS, STRENGTH, np.random.default_rng(SEED))
        return np.roll(h, -(STEPS // 2))

    return run


@cache
def _compiled_sums() -> Any:
    from numba import njit

    @njit
    def grow(Z: Array, steps: int, b: float, rng: np.random.Generator) -> Array:
        offset = 0.0
        for step in range(steps):
            before = Z[-1]
            for x in range(len(Z)):
                now = Z[x]
                Z[x] = (now + before) / 2 * np.exp(b * rng.standard_normal())
                before = now
            offset -= b * b / 2
            if step % 16 == 15:
                largest = Z.max()
                Z /= largest
                offset += np.log(largest)
        return np.log(Z) + offset

    return grow


@cache
def _free_energies(sites: int) -> Array:
    """Logarithms of the sums over all paths to a few sites, followed back."""
    noise = np.random.default_rng(SEED).standard_normal((STEPS, sites))
    found = []
    for place in PLACES:
        weight = np.zeros(1)
        for step in range(STEPS - 1, -1, -1):
            back = STEPS - 1 - step
            reached = (place + STEPS // 2 - np.arange(back + 1)) % sites
            weight = weight + STRENGTH * noise[step, reached] - STRENGTH**2 / 2
            stays, moves = np.append(weight, -np.inf), np.append(-np.inf, weight)
            weight = np.logaddexp(stays, moves) - np.log(2)
        found.append(np.logaddexp.reduce(weight))
    return np.array(found)


def _missed_energy(heights: Array, sites: int) -> float:
    exact = _free_energies(sites)
    return float(np.abs(heights[list(PLACES)] - exact).max())


# --- the KPZ equation ---------------------------------------------------------------

TIME, VISCOSITY, NONLINEARITY = 4.0, 1.0, 1.0


def _kpz(sites: int) -> Run:
    def run() -> Array:
        (heights,) = kpz_equation(
            sites, [TIME], SEED, nonlinearity=NONLINEARITY, dt=0.1, stationary=True
        )
        return np.asarray(heights)

    return run


def _plain_kpz(sites: int) -> Run:
    """Euler and Maruyama on the lattice, with the same form of the square."""
    dt = 0.01

    def run() -> Array:
        rng = np.random.default_rng(SEED)
        h = np.cumsum(rng.standard_normal(sites))
        h -= np.linspace(0, h[-1], sites)
        for _ in range(round(TIME / dt)):
            d = np.roll(h, -1) - h
            before = np.roll(d, 1)
            square = (d * d + d * before + before * before) / 3
            drift = VISCOSITY * (d - before) + NONLINEARITY / 2 * square
            h = h + dt * drift + np.sqrt(2 * dt) * rng.standard_normal(sites)
        return h

    return run


def _pypde_kpz(sites: int) -> Run:
    """Its own class for this equation, with the steps that its square needs."""
    import pde

    ring = pde.CartesianGrid([(0, sites)], sites, periodic=True)
    equation = pde.KPZInterfacePDE(
        nu=VISCOSITY, lmbda=NONLINEARITY, noise=2.0, rng=np.random.default_rng(SEED)
    )
    rng = np.random.default_rng(SEED)
    h = np.cumsum(rng.standard_normal(sites))
    start = pde.ScalarField(ring, h - np.linspace(0, h[-1], sites))

    def run() -> Array:
        solved = equation.solve(
            start, TIME, dt=0.01, solver="euler", tracker=None, backend="numba"
        )
        heights: Array = solved.data
        return heights

    return run


def _misfit_of_slopes(heights: Array, sites: int) -> float:
    """Variance of the slopes, which growth leaves at D / nu = 1."""
    slopes = np.diff(heights)
    return float(abs(slopes.var() - 1))


# --- a walk in a random environment -------------------------------------------------

WALKS = 16


def _walk(steps: int) -> Run:
    return lambda: random_environment_walk(steps, SEED, [0.0], samples=WALKS)[:, 0, 0]


def _plain_walk(steps: int) -> Run:
    """New arrays in every step, on all the sites that are ever reached."""

    def run() -> Array:
        rng = np.random.default_rng(SEED)
        chance = np.zeros((steps + 1, WALKS))
        chance[0] = 1.0
        for step in range(steps):
            up = np.zeros((steps + 1, WALKS))
            up[: step + 1] = rng.random((step + 1, WALKS)) * chance[: step + 1]
            chance = chance - up + np.roll(up, 1, axis=0)
        return np.asarray(np.log(chance[steps // 2]))

    return run


@cache
def _backward(steps: int) -> Array:
    """Chance to end at the origin, from every site and backwards in time."""
    rng = np.random.default_rng(SEED)
    drawn = [rng.random((step + 1, WALKS)) for step in range(steps)]
    ends = np.zeros((steps + 1, WALKS))
    ends[steps // 2] = 1.0
    for up in reversed(drawn):
        ends = up * ends[1:] + (1 - up) * ends[:-1]
    return np.asarray(np.log(ends[0]))


def _missed_chance(logs: Array, steps: int) -> float:
    return float(np.abs(logs - _backward(steps)).max())


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
    Case(
        name="directed polymer",
        module="growing_surfaces",
        kernel="directed_polymer",
        measures=f"Sums over all paths of {STEPS} steps, on a ring.",
        size_name="sites",
        sizes=(2**10, 2**12, 2**13, 2**14, 2**15, 2**16),
        setup=_polymer,
        exact="sums over the paths to three sites, followed back",
        error_name="largest error",
        error=_missed_energy,
        tolerance=1e-12,
        reference=Peer("numpy, logaddexp", _plain_polymer),
        peers=(Peer("numba, loop over sites", _compiled_polymer, "numba"),),
    ),
    Case(
        name="KPZ equation",
        module="growing_surfaces",
        kernel="kpz_equation",
        measures=f"Stationary heights on a ring, to time {TIME:g}.",
        size_name="sites",
        sizes=(2**10, 2**12, 2**13, 2**14, 2**15, 2**16),
        setup=_kpz,
        exact="variance of the slopes, which growth does not change",
        error_name="relative error",
        error=_misfit_of_slopes,
        # Three standard deviations of a variance of so many slopes.
        tolerance=3 * (2 / 2**16) ** 0.5,
        order=0.5,
        reference=Peer("numpy, Euler-Maruyama", _plain_kpz),
        peers=(Peer("py-pde, Euler", _pypde_kpz, "py-pde", smallest=2**16),),
    ),
    Case(
        name="walk in a random environment",
        module="growing_surfaces",
        kernel="random_environment_walk",
        measures=f"Chance to return, in {WALKS} environments.",
        size_name="steps",
        sizes=(64, 128, 256, 512, 1024, 2048),
        setup=_walk,
        exact="the backward equation with the same environments",
        error_name="largest error of the logarithm",
        error=_missed_chance,
        tolerance=1e-12,
        reference=Peer("numpy, new arrays in every step", _plain_walk),
    ),
)
