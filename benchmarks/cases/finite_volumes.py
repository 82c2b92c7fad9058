"""Rates of hopping from cell to cell: along the axes, and of a full tensor."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import exprel

from benchmarks.harness import Case, Peer, Run
from fpbook.finite_volumes import Grid, tensor_jumps
from fpbook.fokker_planck import FokkerPlanck

Array = NDArray[np.float64]

TEMPERATURE = 0.05
TILT = np.array([[1.0, 0.4], [0.4, 0.5]])
"""Diffusion tensor at the origin; it grows with the distance from there."""

# --- along the axes -----------------------------------------------------------------


def _grid(cells: int) -> Grid:
    return Grid([-2, -2], [2, 2], round(cells**0.5))


def _loss(w: Array) -> Array:
    loss: Array = (1 - w[..., 0] * w[..., 1]) ** 2 / 2 + 0.05 * (w**2).sum(axis=-1)
    return loss


def _rates(cells: int) -> Run:
    grid = _grid(cells)
    return lambda: FokkerPlanck(grid, TEMPERATURE, potential=_loss).generator


def _rates_cell_by_cell(cells: int) -> Run:
    """Fill the matrix with a loop over the cells, as one would write it at first."""
    grid = _grid(cells)

    def run() -> sparse.csc_array:
        level = _loss(grid.points).reshape(grid.shape)
        index = np.arange(level.size).reshape(grid.shape)
        matrix = sparse.lil_array((level.size, level.size))
        for here in np.ndindex(*grid.shape):
            for axis, h in enumerate(grid.spacing):
                for way in (-1, 1):
                    there = list(here)
                    there[axis] += way
                    if 0 <= there[axis] < grid.shape[axis]:
                        z = (level[tuple(there)] - level[here]) / TEMPERATURE
                        rate = TEMPERATURE / h**2 / exprel(z)
                        matrix[index[tuple(there)], index[here]] += rate
                        matrix[index[here], index[here]] -= rate
        return matrix.tocsc()

    return run


def _change_at_rest(generator: sparse.csc_array, cells: int) -> float:
    """Rate of change of the Boltzmann law, over the rates of leaving."""
    level = _loss(_grid(cells).points)
    rest = np.exp(-(level - level.min()) / TEMPERATURE)
    leaving = -generator.diagonal() @ rest
    return float(np.abs(generator @ rest).sum() / leaving)


# --- a full tensor ------------------------------------------------------------------


def _tensor(w: Array) -> Array:
    return np.asarray(np.multiply.outer(1 + (w**2).sum(axis=-1), TILT))


def _force(w: Array) -> Array:
    return -w + w[:, ::-1] * [0.5, -0.5]


def _jumps(cells: int) -> Run:
    grid = _grid(cells)

    def run() -> Array:
        tensors = _tensor(grid.points).reshape(*grid.shape, 2, 2)
        jumps = tensor_jumps(grid, tensors, None, _force)
        moved = [
            np.bincount(jumps.source, jumps.rate * jumps.displacement[:, axis])
            for axis in range(2)
        ]
        return np.stack(moved, axis=-1)

    return run


def _jumps_cell_by_cell(cells: int) -> Run:
    """The same directions, found cell by cell, which is how they are published."""
    grid = _grid(cells)
    h, shape = np.array(grid.spacing), np.array(grid.shape)

    def run() -> Array:
        moved = np.zeros((cells, 2))
        places = np.stack(np.unravel_index(np.arange(cells), grid.shape), axis=-1)
        points = grid.points
        tensors, forces = _tensor(points), _force(points)
        for number in range(cells):
            D, place = tensors[number] / np.outer(h, h), places[number]
            score = np.linalg.solve(tensors[number], forces[number])
            base = [np.array(e) for e in ((1, 0), (0, 1), (-1, -1))]
            pairs = ((0, 1, 2), (0, 2, 1), (1, 2, 0))
            changed = True
            while changed:
                changed = False
                for i, j, k in pairs:
                    if base[i] @ D @ base[j] > 1e-12 * np.trace(D):
                        base[i], base[k] = -base[i], base[i] - base[j]
                        changed = True
            for i, j, k in pairs:
                weight = max(-base[i] @ D @ base[j], 0.0)
                hop = np.array([-base[k][1], base[k][0]])
                for sign in (1, -1):
                    there = place + sign * hop
                    if weight and np.all((there >= 0) & (there < shape)):
                        step = sign * h * hop
                        moved[number] += weight / exprel(-(step @ score)) * step
        return moved

    return run


def _missed_drift(moved: Array, cells: int) -> float:
    """Difference from the force in cells that no jump leads out of the box from."""
    grid = _grid(cells)
    inner = (slice(4, -4),) * 2
    force = _force(grid.points)
    difference = (moved - force).reshape(*grid.shape, 2)[inner]
    # The rates are of the size of the diffusion over the square of a cell.
    size = 9 * TILT[0, 0] / grid.spacing[0]
    return float(np.abs(difference).max() / size)


CASES = (
    Case(
        name="rates of two weights",
        module="finite_volumes",
        kernel="face_rates, axis_jumps",
        measures="The generator of two weights with a product loss, as a matrix.",
        size_name="cells",
        sizes=(32**2, 64**2, 128**2, 256**2, 512**2),
        setup=_rates,
        exact="zero change of the Boltzmann law",
        error_name="share of the rates",
        error=_change_at_rest,
        tolerance=1e-14,
        reference=Peer("numpy, cell by cell", _rates_cell_by_cell, largest=64**2),
    ),
    Case(
        name="rates of a full tensor",
        module="finite_volumes",
        kernel="tensor_jumps",
        measures="Jumps for a diffusion tensor that depends on two weights.",
        size_name="cells",
        sizes=(32**2, 64**2, 128**2, 256**2),
        setup=_jumps,
        exact="the mean of the jumps is the force",
        error_name="largest share of a rate",
        error=_missed_drift,
        tolerance=1e-14,
        reference=Peer("numpy, cell by cell", _jumps_cell_by_cell, largest=32**2),
    ),
)
