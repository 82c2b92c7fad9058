"""Densities carried along gradient flow, and survival in a logarithmic potential."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

from benchmarks.harness import Case, Peer, Run
from benchmarks.remote import Elsewhere
from fpbook.callan_symanzik import characteristics, survival, survival_from_density

Array = NDArray[np.float64]

SEED = 0

# --- gradient flow ------------------------------------------------------------------

TIME, MASS, COUPLING = 2.0, 1.0, 0.5
"""Of the loss m w^2 / 2 + c w^4 / 4 of each of two weights."""


def _points(networks: int) -> Array:
    return np.random.default_rng(SEED).uniform(-2, 2, (networks, 2))


def _gradient(w: Array) -> Array:
    return MASS * w + COUPLING * w**3


def _laplacian(w: Array) -> Array:
    bend: Array = (MASS + 3 * COUPLING * w**2).sum(axis=1)
    return bend


def _carried(networks: int) -> Run:
    points = _points(networks)

    def run() -> Array:
        found = characteristics(_gradient, _laplacian, points, [TIME])
        return np.concatenate([found.paths[0], found.log_ratio[0][:, None]], axis=1)

    return run


def _one_by_one(networks: int) -> Run:
    """An equation for each network, with steps of its own."""
    points = _points(networks)

    def velocity(_: float, state: Array) -> Array:
        w = state[:2]
        return np.append(-MASS * w - COUPLING * w**3, _laplacian(w[None]))

    def run() -> Array:
        ends = [
            solve_ivp(
                velocity, (0, TIME), [*w, 0.0], method="DOP853", rtol=1e-10, atol=1e-11
            ).y[:, -1]
            for w in points
        ]
        return np.stack(ends)

    return run


def _by_torch(networks: int) -> Run:
    import torchdiffeq

    start = torch.tensor(
        np.concatenate([_points(networks), np.zeros((networks, 1))], 1)
    )
    times = torch.tensor([0.0, TIME], dtype=torch.float64)

    def velocity(_: Any, state: torch.Tensor) -> torch.Tensor:
        w = state[:, :2]
        bend = (MASS + 3 * COUPLING * w**2).sum(dim=1, keepdim=True)
        return torch.cat([-MASS * w - COUPLING * w**3, bend], dim=1)

    def run() -> Array:
        found = torchdiffeq.odeint(
            velocity,
            start,
            times,
            method="dopri8",
            rtol=1e-11,
            atol=1e-12,
            # Otherwise it interpolates the end, to fewer digits.
            options={"step_t": times[1:]},
        )
        result: Array = found[-1].numpy()
        return result

    return run


def _inputs(networks: int) -> dict[str, Any]:
    return {
        "points": _points(networks),
        "mass": MASS,
        "coupling": COUPLING,
        "time": TIME,
    }


def _error_of_flow(ends: Array, networks: int) -> float:
    """Against the closed form of a cubic force, weight by weight."""
    start = _points(networks)
    decay = np.exp(-2 * MASS * TIME)
    spread = 1 + COUPLING / MASS * start**2 * (1 - decay)
    path = start * np.exp(-MASS * TIME) / np.sqrt(spread)
    # The log-density grows by minus the logarithm of the flow's derivative.
    ratio = (MASS * TIME + 1.5 * np.log(spread)).sum(axis=1)
    exact = np.concatenate([path, ratio[:, None]], axis=1)
    return float(np.abs(ends - exact).max())


# --- survival -----------------------------------------------------------------------

STRENGTH, TEMPERATURE, START, TIMES = 0.0, 0.5, 1.0, (0.5, 1.0, 2.0, 4.0)


def _surviving(cells: int) -> Run:
    return lambda: (
        survival_from_density(STRENGTH, TEMPERATURE, START, TIMES, cells).probability
    )


def _explicit_survival(cells: int) -> Run:
    """Steps of Euler on cells, with the wall at 0; stable steps are short."""
    far = START + 8 * (2 * TEMPERATURE * TIMES[-1]) ** 0.5
    width = START / (np.floor(START / (far / cells)) + 0.5)

    def run() -> Array:
        p = np.zeros(cells)
        p[round(START / width - 0.5)] = 1.0
        steps = int(np.ceil(TIMES[-1] * TEMPERATURE / width**2 / 0.4 / 8)) * 8
        share = TIMES[-1] / steps * TEMPERATURE / width**2
        left = []
        for step in range(1, steps + 1):
            flux = share * np.diff(p)
            p[0] -= 2 * share * p[0]
            p[:-1] += flux
            p[1:] -= flux
            if step * TIMES[-1] / steps in TIMES:
                left.append(p.sum())
        return np.array(left)

    return run


def _error_of_survival(probability: Array, _: int) -> float:
    exact = survival(STRENGTH, TEMPERATURE, START, TIMES).probability
    return float(np.abs(probability - exact).max())


CASES = (
    Case(
        name="density along gradient flow",
        module="callan_symanzik",
        kernel="characteristics",
        measures="Paths of networks of two weights, and the log-density they carry.",
        size_name="networks",
        sizes=(100, 1_000, 10_000, 30_000, 100_000),
        setup=_carried,
        exact="closed form for a cubic force",
        error_name="largest error",
        error=_error_of_flow,
        tolerance=1e-10,
        reference=Peer("scipy, one by one", _one_by_one, largest=100),
        peers=(
            Peer("torchdiffeq, dopri8", _by_torch, "torchdiffeq"),
            Peer("diffrax, Dopri8", Elsewhere("flow", _inputs), "diffrax"),
        ),
    ),
    Case(
        name="survival at a wall",
        module="callan_symanzik",
        kernel="survival_from_density",
        measures="Mass that has not reached a wall, at four times.",
        size_name="cells",
        # Beyond, the error of the time steps is left, 7e-6.
        sizes=(125, 250, 500, 1_000, 2_000),
        setup=_surviving,
        exact="incomplete gamma function",
        error_name="largest error",
        error=_error_of_survival,
        tolerance=1.2e-5,
        order=2.0,
        reference=Peer("numpy, Euler's steps", _explicit_survival, largest=1_000),
    ),
)
