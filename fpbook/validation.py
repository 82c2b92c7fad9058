"""Checks of arguments that several modules share.

Each names the argument, what was given and what is allowed. Those that return an array
turn lists and numbers into float64 arrays of the shape that they state.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

# --- numbers ------------------------------------------------------------------------


def require_positive(**arguments: float) -> None:
    """Require single numbers, finite and > 0.

    Raises
    ------
    ValueError
        If one is not, or is an array.
    """
    _require_single(arguments)
    require_all_positive(**arguments)


def require_non_negative(**arguments: float) -> None:
    """Require single numbers, finite and >= 0.

    Raises
    ------
    ValueError
        If one is not, or is an array.
    """
    _require_single(arguments)
    require_all_non_negative(**arguments)


def _require_single(arguments: dict[str, float]) -> None:
    for name, value in arguments.items():
        if np.ndim(value) != 0:
            raise ValueError(f"{name} must be a single number, got {value}")


def require_all_positive(**arguments: float | Array) -> None:
    """Require numbers, or arrays of numbers, that are finite and > 0.

    Raises
    ------
    ValueError
        If one of them is not.
    """
    for name, values in arguments.items():
        if not np.all(np.isfinite(values) & np.greater(values, 0)):
            raise ValueError(f"{name} must be finite and > 0, got {values}")


def require_all_non_negative(**arguments: float | Array) -> None:
    """Require numbers, or arrays of numbers, that are finite and >= 0.

    Raises
    ------
    ValueError
        If one of them is not.
    """
    for name, values in arguments.items():
        if not np.all(np.isfinite(values) & np.greater_equal(values, 0)):
            raise ValueError(f"{name} must be finite and >= 0, got {values}")


def require_integer(smallest: int, **arguments: int) -> None:
    """Require integers that are at least ``smallest``.

    Raises
    ------
    ValueError
        If one is smaller or not an integer.
    """
    for name, value in arguments.items():
        if not isinstance(value, int | np.integer) or value < smallest:
            raise ValueError(f"{name} must be an integer >= {smallest}, got {value!r}")


def require_integer_between(smallest: int, largest: int, **arguments: int) -> None:
    """Require integers from ``smallest`` to ``largest``, both included.

    Raises
    ------
    ValueError
        If one is outside or not an integer.
    """
    for name, value in arguments.items():
        if not isinstance(value, int | np.integer) or not smallest <= value <= largest:
            raise ValueError(
                f"{name} must be an integer from {smallest} to {largest}, got {value!r}"
            )


def require_jobs(jobs: int) -> None:
    """Require a number of joblib's jobs: an integer, but not 0.

    Raises
    ------
    ValueError
        If it is not.
    """
    if not isinstance(jobs, int | np.integer) or jobs == 0:
        raise ValueError(f"jobs must be an integer other than 0, got {jobs!r}")


def require_choice(allowed: Sequence[object], **arguments: object) -> None:
    """Require that each argument is one of those allowed.

    Raises
    ------
    ValueError
        If one is not.
    """
    for name, value in arguments.items():
        if value not in allowed:
            raise ValueError(f"{name} must be one of {tuple(allowed)}, got {value!r}")


# --- sequences ----------------------------------------------------------------------


def require_times(times: ArrayLike) -> Array:
    """Require at least one time, >= 0 and increasing; returns shape (n,).

    Raises
    ------
    ValueError
        If the times are not.
    """
    t = np.atleast_1d(np.asarray(times, dtype=float))
    if not _is_increasing(t, 1) or t[0] < 0:
        raise ValueError(
            f"times must be >= 0 and increasing, shape (n,), got {times!r}"
        )
    return t


def _is_increasing(values: Array, fewest: int) -> bool:
    return (
        values.ndim == 1
        and len(values) >= fewest
        and bool(np.all(np.isfinite(values)))
        and bool(np.all(values[1:] > values[:-1]))
    )


def require_snapshots(
    snapshots: Sequence[int] | None, steps: int, name: str = "snapshots"
) -> list[int]:
    """Require step counts to keep, increasing, from 0 to ``steps``; None for the last.

    Raises
    ------
    ValueError
        If they are not.
    """
    kept = [steps] if snapshots is None else np.atleast_1d(snapshots).tolist()
    allowed = (
        len(kept) > 0
        and all(isinstance(step, int) for step in kept)
        and kept == sorted(set(kept))
        and 0 <= kept[0] <= kept[-1] <= steps
    )
    if not allowed:
        raise ValueError(
            f"{name} must be increasing integers from 0 to {steps}, got {snapshots}"
        )
    return kept


def require_edges(edges: ArrayLike) -> Array:
    """Require the edges of n >= 1 bins, finite and increasing; returns (n + 1,).

    Raises
    ------
    ValueError
        If they are not.
    """
    faces = np.asarray(edges, dtype=float)
    if not _is_increasing(faces, 2):
        raise ValueError(
            "edges must be at least two, finite and increasing, shape (n + 1,), got "
            f"shape {faces.shape} with {faces.tolist()}"
        )
    return faces


# --- matrices -----------------------------------------------------------------------

ROUNDING = 1e-12
"""Relative error that rounding may leave in an argument."""


def require_matrix(name: str, values: ArrayLike) -> Array:
    """Require a finite matrix; a number stands for that of shape (1, 1).

    Raises
    ------
    ValueError
        If it is none.
    """
    matrix = np.asarray(values, dtype=float)
    if matrix.ndim == 0:
        matrix = matrix.reshape(1, 1)
    if matrix.ndim != 2 or not np.all(np.isfinite(matrix)):
        raise ValueError(f"{name} must be a finite matrix, got {matrix.tolist()}")
    return matrix


def require_symmetric(name: str, values: ArrayLike, size: int | None = None) -> Array:
    """Require a finite symmetric matrix, of the given size if any.

    A number stands for that number times the identity, of size 1 if none is given.

    Raises
    ------
    ValueError
        If it is none.
    """
    matrix = np.asarray(values, dtype=float)
    if matrix.ndim == 0:
        matrix = matrix * np.eye(size or 1)
    expected = "square" if size is None else f"of shape {(size, size)}"
    if not matrix.size or matrix.shape != (size or len(matrix),) * 2:
        raise ValueError(f"{name} must be {expected}, got shape {matrix.shape}")
    if (
        not np.all(np.isfinite(matrix))
        or np.abs(matrix - matrix.T).max() > ROUNDING * np.abs(matrix).max()
    ):
        raise ValueError(f"{name} must be finite and symmetric, got {matrix.tolist()}")
    return matrix


def require_covariance(name: str, values: ArrayLike, size: int | None = None) -> Array:
    """Require a positive semidefinite matrix; else as :func:`require_symmetric`.

    Raises
    ------
    ValueError
        If it is none.
    """
    matrix = require_symmetric(name, values, size)
    if np.linalg.eigvalsh(matrix)[0] < -ROUNDING * np.abs(matrix).max():
        raise ValueError(f"{name} must be positive semidefinite, got {matrix.tolist()}")
    return matrix


def require_factors(size: int, **matrices: ArrayLike) -> tuple[Array, Array]:
    """Require two matrices, or stacks of them, (..., k, size) and (..., size, k).

    Raises
    ------
    ValueError
        If a shape does not fit.
    """
    (name1, values1), (name2, values2) = matrices.items()
    first, second = np.asarray(values1, dtype=float), np.asarray(values2, dtype=float)
    if first.ndim < 2 or first.shape[-1] != size:
        raise ValueError(
            f"{name1} must have shape (..., k, {size}) as the covariance asks, got "
            f"{first.shape}"
        )
    *stack, k, _ = first.shape
    if second.shape != (*stack, size, k):
        raise ValueError(
            f"{name2} must have the shape {(*stack, size, k)} of the transposed "
            f"{name1}, got {second.shape}"
        )
    return first, second


# --- clouds and densities -----------------------------------------------------------

MASS_TOLERANCE = 1e-6
"""Mass that a density may lack, have too much, or have below zero."""


def require_walkers(name: str, values: ArrayLike, width: int | None = None) -> Array:
    """Require M >= 1 finite points; returns shape (M, width), any width if None.

    Raises
    ------
    ValueError
        If they are not.
    """
    points = np.asarray(values, dtype=float)
    if (
        points.ndim != 2
        or 0 in points.shape
        or points.shape[1] != (width or points.shape[1])
        or not np.all(np.isfinite(points))
    ):
        raise ValueError(
            f"{name} must be finite and of shape (M, {width or 'd'}) with M >= 1, got "
            f"shape {points.shape} with {np.sum(~np.isfinite(points))} not finite"
        )
    return points


def require_on_grid(name: str, values: ArrayLike, shape: tuple[int, ...]) -> Array:
    """Require a finite number for each cell of a grid of the given shape.

    Raises
    ------
    ValueError
        If the shape is another or a value is not finite.
    """
    field = np.asarray(values, dtype=float)
    if field.shape != shape or not np.all(np.isfinite(field)):
        raise ValueError(
            f"{name} must be finite and have the shape {shape} of the grid, got shape "
            f"{field.shape} with {np.sum(~np.isfinite(field))} not finite"
        )
    return field


def require_density(
    name: str, values: ArrayLike, shape: tuple[int, ...], cell_volume: float | Array
) -> Array:
    """Require cell averages >= 0 of mass 1, both to within a mass of 1e-6.

    Raises
    ------
    ValueError
        If they are not, or do not fit the grid of the given shape.
    """
    density = require_on_grid(name, values, shape)
    mass = np.sum(density * cell_volume)
    below = -np.sum(np.minimum(density, 0) * cell_volume)
    if abs(mass - 1) > MASS_TOLERANCE or below > MASS_TOLERANCE:
        raise ValueError(
            f"{name} must be >= 0 and have mass 1, both within {MASS_TOLERANCE:g}, got "
            f"mass {mass:.8g} and {below:.2g} below 0"
        )
    return density
