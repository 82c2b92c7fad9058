r"""Finite volumes: a grid of cells, and a drift and a diffusion as rates between them.

The flux through a face between the cells :math:`i` and :math:`i + 1` is that of
Scharfetter and Gummel (Chang and Cooper),

.. math::
    J_{i+1/2} = \frac{D_*}{h} \bigl[ B(z)\, p_i - B(-z)\, p_{i+1} \bigr], \qquad
    B(z) = \frac{z}{e^z - 1}, \qquad
    z = -\!\int_i^{i+1} \frac{a}{D} \, dw + \log \frac{D_{i+1}}{D_i},

with drift :math:`a` and the harmonic mean :math:`D_*` of the diffusion along the line
that joins the centres, and zero at the walls. With :math:`a = -\nabla L` and a constant
:math:`D = T` this is :math:`z = (L_{i+1} - L_i) / T`, and :math:`e^{-L/T}` at the
centres is stationary on any grid. Otherwise the integrals are Simpson's. Errors are of
second order in the width :math:`h` of the cells, of first order where a cell Peclet
number :math:`h |a| / D` exceeds about 2.

A full diffusion tensor in two dimensions is decomposed into hops along three integer
directions per cell (Selling), so that there, too, every rate is :math:`\ge 0`.

Sources: Scharfetter and Gummel, IEEE Trans. Electron Devices 16, 64 (1969); Chang and
Cooper, J. Comput. Phys. 6, 1 (1970); derived in the chapter *From SGD to
Fokker-Planck*. Selling's decomposition for differences: Bonnans, Ottenwaelter and
Zidani, ESAIM: M2AN 38, 723 (2004).
"""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from fpbook.validation import (
    LARGEST_COUNT,
    require_real,
    require_type,
)

Array = NDArray[np.float64]
Field = Callable[[Array], Array]
Diffusion = float | ArrayLike | Field

MOST_DIMENSIONS = 4
LARGEST_ANISOTROPY = 100.0
"""Ratio of the eigenvalues of a diffusion tensor that the scheme resolves."""
POINTS_AT_ONCE = 2**18
SMALLEST_DIFFUSION = 1e-12

# --- the grid -----------------------------------------------------------------------


class Grid:
    r"""A box in :math:`d = 1` to 4 dimensions, divided into equal cells.

    Parameters
    ----------
    lower, upper
        Corners of the box: numbers for :math:`d = 1`, else sequences of length d.
    cells
        Number of cells along each axis, >= 2; one integer holds for all axes.

    Attributes
    ----------
    shape
        Cells along each axis, a tuple of int.
    spacing
        Width :math:`h` of a cell along each axis, a tuple of float.
    centers, edges
        Cell centres, (cells,), and faces, (cells + 1,): an array per axis.
    points
        All centres, shape (N, d) with N the product of ``shape``, in C order:
        ``values_at(points).reshape(shape)`` is a field on the grid.
    cell_volume
        Volume of a cell.

    Raises
    ------
    ValueError
        If the lengths differ, d is not 1 to 4, ``upper`` is not above ``lower``, or
        an axis has fewer than 2 cells.
    """

    def __init__(
        self, lower: ArrayLike, upper: ArrayLike, cells: int | Sequence[int]
    ) -> None:
        low, high = (
            np.atleast_1d(require_real("lower", lower)),
            np.atleast_1d(require_real("upper", upper)),
        )
        if low.ndim != 1 or not 1 <= low.size <= MOST_DIMENSIONS:
            raise ValueError(
                f"lower must have 1 to {MOST_DIMENSIONS} entries, got {lower!r}"
            )
        if high.shape != low.shape:
            raise ValueError(
                f"upper must have as many entries as lower ({low.size}), got {upper!r}"
            )
        if not np.all(np.isfinite(low) & np.isfinite(high) & (low < high)):
            raise ValueError(
                f"upper must be above lower along each axis and both finite, got "
                f"lower {lower!r} and upper {upper!r}"
            )
        counts = np.asarray(cells, dtype=object)
        if counts.ndim == 0:
            counts = np.broadcast_to(counts, low.shape)
        if counts.shape != low.shape or not all(
            isinstance(n, int | np.integer) and not isinstance(n, bool) and n >= 2
            for n in counts
        ):
            raise ValueError(
                f"cells must be an integer >= 2, or {low.size} of them, got {cells!r}"
            )
        if math.prod(int(n) for n in counts) > LARGEST_COUNT:
            raise ValueError(
                f"cells must be at most {LARGEST_COUNT:g} in all, got {cells!r}"
            )
        self.shape: tuple[int, ...] = tuple(int(n) for n in counts)
        self.edges: tuple[Array, ...] = tuple(
            np.linspace(a, b, n + 1)
            for a, b, n in zip(low, high, self.shape, strict=True)
        )
        self.centers: tuple[Array, ...] = tuple(
            (edge[1:] + edge[:-1]) / 2 for edge in self.edges
        )
        self.spacing: tuple[float, ...] = tuple(
            float(b - a) / n for a, b, n in zip(low, high, self.shape, strict=True)
        )
        self.cell_volume: float = math.prod(self.spacing)

    @property
    def points(self) -> Array:
        return next(_blocks(self.centers, math.prod(self.shape)))[1]

    def __repr__(self) -> str:
        lower = [float(edge[0]) for edge in self.edges]
        upper = [float(edge[-1]) for edge in self.edges]
        return f"Grid({lower!r}, {upper!r}, {list(self.shape)})"


def _blocks(axes: Sequence[Array], most_points: int) -> Iterator[tuple[slice, Array]]:
    """Points of a tensor product, (n, d), in slabs of the first axis."""
    slab = max(1, most_points // math.prod(len(axis) for axis in axes[1:]))
    for start in range(0, len(axes[0]), slab):
        rows = slice(start, start + slab)
        mesh = np.meshgrid(axes[0][rows], *axes[1:], indexing="ij")
        yield rows, np.stack([x.ravel() for x in mesh], axis=-1)


def gaussian(grid: Grid, mean: ArrayLike, std: ArrayLike) -> Array:
    r"""Exact cell averages of a normal density with independent components.

    .. math:: \frac{1}{h} \int_{\text{cell}}
        \frac{e^{-(w - \mu)^2 / 2\sigma^2}}{\sqrt{2\pi}\,\sigma} \, dw
        \quad\text{per axis}

    Mass outside the box is cut off and not made good: the sum tells how much.

    Parameters
    ----------
    grid
        The cells.
    mean, std
        Mean and standard deviation > 0: numbers, or one per axis.

    Returns
    -------
    array
        Density, shape ``grid.shape``, in 1 / volume.

    Raises
    ------
    ValueError
        If ``mean`` or ``std`` has the wrong length or a value that is not allowed.
    TypeError
        If ``grid`` is no grid.
    """
    require_type(Grid, grid=grid)
    d = len(grid.shape)
    means, stds = per_axis("mean", mean, d), per_axis("std", std, d)
    if np.any(stds <= 0):
        raise ValueError(f"std must be > 0, got {std!r}")
    density = np.ones(())
    for edges, h, mu, sigma in zip(grid.edges, grid.spacing, means, stds, strict=True):
        z = (edges - mu) / sigma
        # In the upper half the two values next to 1 would cancel: use the tails there.
        mass = np.where(
            z[:-1] > 0, -np.diff(special.ndtr(-z)), np.diff(special.ndtr(z))
        )
        density = np.multiply.outer(density, mass / h)
    return density


def per_axis(name: str, values: ArrayLike, d: int) -> Array:
    given = require_real(name, values)
    if given.shape not in ((), (d,)) or not np.all(np.isfinite(given)):
        raise ValueError(
            f"{name} must be a finite number or {d} of them, one per axis, "
            f"got {values!r}"
        )
    return np.broadcast_to(given, (d,))


# --- coefficients on the grid -------------------------------------------------------


def on_grid(
    name: str, function: Field, axes: Sequence[Array], inner: tuple[int, ...]
) -> Array:
    """Values on the tensor product of the axes, shape (*lengths, *inner)."""
    shape = tuple(len(axis) for axis in axes)
    values = np.empty((*shape, *inner))
    for rows, points in _blocks(axes, POINTS_AT_ONCE):
        block = require_real(f"what {name} returns", function(points))
        if block.shape != (len(points), *inner):
            wanted = ", ".join(["n", *map(str, inner)])
            raise ValueError(
                f"{name} must return shape ({wanted}) for points of shape "
                f"(n, {len(axes)}), got {block.shape} for n = {len(points)}"
            )
        if not np.all(np.isfinite(block)):
            where = points[~np.isfinite(block.reshape(len(points), -1)).all(axis=1)][0]
            raise ValueError(
                f"{name} must be finite on the whole grid, is not at {where}"
            )
        values[rows] = block.reshape(-1, *shape[1:], *inner)
    return values


def read_diffusion(
    grid: Grid, diffusion: Diffusion
) -> tuple[Array | None, Array | None]:
    """A constant per axis, or values at the centres: diagonal, or tensors."""
    d = len(grid.shape)
    if not callable(diffusion):
        constant = per_axis("diffusion", diffusion, d)
        if np.any(constant < 0) or not np.any(constant > 0):
            raise ValueError(
                f"diffusion must be >= 0 and not zero everywhere, got {diffusion!r}"
            )
        return np.maximum(constant, SMALLEST_DIFFUSION * constant.max()), None
    first = np.stack([c[:1] for c in grid.centers], axis=-1)
    probe = require_real("what diffusion returns", diffusion(first))
    inner = (2, 2) if d == 2 and probe.ndim == 3 else (d,)
    values = on_grid("diffusion", diffusion, grid.centers, inner)
    if inner == (d,):
        _require_diffusion(values.min(), values.max())
        return None, np.maximum(values, SMALLEST_DIFFUSION * values.max())
    if not np.allclose(values, np.swapaxes(values, -1, -2), rtol=1e-10, atol=0):
        raise ValueError("diffusion must be a symmetric tensor, got one that is not")
    eigenvalues = np.linalg.eigvalsh(values)
    rounding = 1e-12 * np.abs(eigenvalues).max()
    _require_diffusion(min(0.0, eigenvalues.min() + rounding), eigenvalues.max())
    return None, values


def _require_diffusion(smallest: float, largest: float) -> None:
    if smallest < 0 or largest <= 0:
        raise ValueError(
            "diffusion must be >= 0 and not zero everywhere, got values from "
            f"{smallest:g} to {largest:g}"
        )


# --- fluxes along the axes ----------------------------------------------------------


class Faces(NamedTuple):
    """The inner faces of one axis: step z, rates of hopping up and down, 1 / time."""

    z: Array
    up: Array
    down: Array


def sides(axis: int, d: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Index the cells before and after the inner faces of an axis."""
    every = (slice(None),) * axis
    return (*every, slice(None, -1)), (*every, slice(1, None))


def diffusion_at_nodes(
    diffusion: Field, at_centers: Array, grid: Grid, axis: int
) -> tuple[Array, Array, Array]:
    """One component of a diagonal diffusion before, on and after its faces."""
    before, on, after = _at_nodes("diffusion", diffusion, at_centers, grid, axis)
    _require_diffusion(on.min(), at_centers.max())
    return before, np.maximum(on, SMALLEST_DIFFUSION * at_centers.max()), after


def _at_nodes(
    name: str, function: Field, at_centers: Array, grid: Grid, axis: int
) -> tuple[Array, Array, Array]:
    """One component before, on and after the inner faces of its axis."""
    d = len(grid.shape)
    left, right = sides(axis, d)
    on_faces = on_grid(name, function, _face_axes(grid, axis), (d,))[..., axis]
    component = at_centers[..., axis]
    return component[left], on_faces, component[right]


def _face_axes(grid: Grid, axis: int) -> tuple[Array, ...]:
    return tuple(
        grid.edges[i][1:-1] if i == axis else grid.centers[i]
        for i in range(len(grid.shape))
    )


def _simpson(first: Any, middle: Any, last: Any) -> Any:
    return (first + 4 * middle + last) / 6


def face_rates(
    grid: Grid,
    axis: int,
    diffusions: Sequence[Any],
    known: Array,
    potential: Field | None,
    drift: Field | None,
) -> Faces:
    """Compute the fluxes of Scharfetter and Gummel through the faces of an axis.

    ``diffusions`` are those before, on and after the faces; ``known`` is the potential
    or the drift at the centres.
    """
    h = grid.spacing[axis]
    D0, Dm, D1 = diffusions
    if drift is not None:
        a0, am, a1 = _at_nodes("drift", drift, known, grid, axis)
        z = -h * _simpson(a0 / D0, am / Dm, a1 / D1)
    else:
        assert potential is not None
        left, right = sides(axis, known.ndim)
        L0, L1 = known[left], known[right]
        if np.ndim(D0) == 0:
            z = (L1 - L0) / D0
        else:
            # Slopes, times h, of the parabola through the potential at the nodes.
            Lm = on_grid("potential", potential, _face_axes(grid, axis), ())
            z = _simpson(
                (-3 * L0 + 4 * Lm - L1) / D0,
                (L1 - L0) / Dm,
                (L0 - 4 * Lm + 3 * L1) / D1,
            )
    z = z + np.log(D1 / D0)
    mean = 1 / _simpson(1 / D0, 1 / Dm, 1 / D1)
    # The Bernoulli function is 1 / exprel, stable for all arguments.
    up = mean / (h**2 * special.exprel(z))
    down = mean / (h**2 * special.exprel(-z))
    return Faces(z, up, down)


class Jumps(NamedTuple):
    """A Markov chain on the cells: flattened indices, rates in 1 / time, distances."""

    source: NDArray[np.intp]
    target: NDArray[np.intp]
    rate: Array
    displacement: Array


def axis_jumps(grid: Grid, faces: Sequence[Faces]) -> Jumps:
    index = np.arange(math.prod(grid.shape)).reshape(grid.shape)
    found = []
    for axis, (_, up, down) in enumerate(faces):
        left, right = sides(axis, index.ndim)
        for source, target, rate, sign in (
            (left, right, up, 1),
            (right, left, down, -1),
        ):
            hop = np.zeros((rate.size, index.ndim))
            hop[:, axis] = sign * grid.spacing[axis]
            found.append(
                Jumps(index[source].ravel(), index[target].ravel(), rate.ravel(), hop)
            )
    return _joined(found)


def _joined(jumps: Sequence[Jumps]) -> Jumps:
    return Jumps(
        np.concatenate([part.source for part in jumps]),
        np.concatenate([part.target for part in jumps]),
        np.concatenate([part.rate for part in jumps]),
        np.concatenate([part.displacement for part in jumps]),
    )


# --- a full diffusion tensor in two dimensions --------------------------------------


def tensor_jumps(
    grid: Grid, tensors: Array, potential: Field | None, drift: Field | None
) -> Jumps:
    r"""Hop along three directions per cell, so that every rate is :math:`\ge 0`.

    Selling's decomposition :math:`D = \sum_k \rho_k v_k v_k^T`, with
    :math:`\rho_k \ge 0` and :math:`v_k` an integer number of cells, turns the Ito
    operator into differences along the :math:`v_k`. With
    :math:`s = D^{-1} a` the rates :math:`\rho_k B(\mp s \cdot v_k)` of hopping along
    :math:`\pm v_k` have the drift :math:`a` exactly and the diffusion to second order.
    """
    h = np.array(grid.spacing)
    drifts = (
        on_grid("drift", drift, grid.centers, (2,))
        if drift is not None
        else _minus_gradient(grid, potential)
    ).reshape(-1, 2)
    tensors = _resolvable(tensors.reshape(-1, 2, 2))
    score = np.linalg.solve(tensors, drifts[..., None])[..., 0]
    place = np.stack(np.unravel_index(np.arange(len(tensors)), grid.shape), axis=-1)
    found = []
    for weight, direction in _selling(tensors / np.outer(h, h)):
        z = ((h * direction) * score).sum(axis=-1)
        for sign in (1, -1):
            there = place + sign * direction
            inside = np.all((there >= 0) & (there < grid.shape), axis=-1) & (weight > 0)
            found.append(
                Jumps(
                    np.flatnonzero(inside),
                    np.ravel_multi_index(tuple(there[inside].T), grid.shape),
                    (weight / special.exprel(-sign * z))[inside],
                    (sign * h * direction)[inside],
                )
            )
    return _joined(found)


def _minus_gradient(grid: Grid, potential: Field | None) -> Array:
    assert potential is not None
    slopes = []
    for axis, h in enumerate(grid.spacing):
        axes = [grid.edges[i] if i == axis else grid.centers[i] for i in range(2)]
        levels = on_grid("potential", potential, axes, ())
        slopes.append(-np.diff(levels, axis=axis) / h)
    return np.stack(slopes, axis=-1)


def _resolvable(tensors: Array) -> Array:
    """Raise small eigenvalues so that hops stay short; warn if that matters."""
    values, vectors = np.linalg.eigh(tensors)
    largest = np.maximum(values[:, 1], SMALLEST_DIFFUSION * values.max())
    raised = np.maximum(values, largest[:, None] / LARGEST_ANISOTROPY)
    share = np.mean(values[:, 0] < raised[:, 0] * (1 - 1e-9))
    if not share:
        return tensors
    warnings.warn(
        "the eigenvalues of the diffusion tensor differ by more than a factor "
        f"{LARGEST_ANISOTROPY:g} in {share:.0%} of the cells; the smaller was raised",
        stacklevel=4,
    )
    resolvable: Array = np.einsum("nik,nk,njk->nij", vectors, raised, vectors)
    return resolvable


def _selling(tensors: Array) -> list[tuple[Array, NDArray[np.intp]]]:
    """Weights (n,) and directions (n, 2) of Selling's decomposition, three of them."""
    count = len(tensors)
    base = [np.tile(e, (count, 1)) for e in ((1, 0), (0, 1), (-1, -1))]
    pairs = ((0, 1, 2), (0, 2, 1), (1, 2, 0))

    def product(i: int, j: int) -> Array:
        total: Array = np.einsum("ni,nij,nj->n", base[i], tensors, base[j])
        return total

    rounding = 1e-12 * np.trace(tensors, axis1=1, axis2=2)
    changed = True
    while changed:
        changed = False
        for i, j, k in pairs:
            acute = (product(i, j) > rounding)[:, None]
            changed = changed or bool(acute.any())
            base[k] = np.where(acute, base[i] - base[j], base[k])
            base[i] = np.where(acute, -base[i], base[i])
    return [
        (
            np.maximum(-product(i, j), 0.0),
            np.stack([-base[k][:, 1], base[k][:, 0]], axis=-1),
        )
        for i, j, k in pairs
    ]
