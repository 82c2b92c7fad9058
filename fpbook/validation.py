"""Checks of arguments that several modules share.

Each names the argument, what was given and what is allowed. Those that return an array
turn lists and numbers into float64 arrays of the shape that they state.
"""

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

# --- kinds ---------------------------------------------------------------------------

LARGEST = 1e150
"""Of numbers: the square is still finite."""
LARGEST_COUNT = 10**11
"""Of steps, samples, cells, ...: more would neither fit into memory nor end."""
MOST_JOBS = 10_000


def require_type(kind: type | tuple[type, ...], **arguments: object) -> None:
    """Require instances of one of some classes.

    Raises
    ------
    TypeError
        If one is none.
    """
    kinds = kind if isinstance(kind, tuple) else (kind,)
    allowed = " or ".join(one.__name__ for one in kinds)
    for name, value in arguments.items():
        if not isinstance(value, kind):
            raise TypeError(f"{name} must be of type {allowed}, got {value!r}")


def require_callable(**functions: object) -> None:
    """Require functions, or what can be called as one.

    Raises
    ------
    TypeError
        If one cannot.
    """
    for name, function in functions.items():
        if not callable(function):
            raise TypeError(f"{name} must be a function, got {function!r}")


def require_flag(**flags: bool) -> None:
    """Require True or False; a text such as "no" would count as True.

    Raises
    ------
    TypeError
        If one is neither.
    """
    require_type((bool, np.bool_), **flags)


def require_real(name: str, values: ArrayLike) -> Array:
    """Require real numbers; returns them as float64, in their shape.

    Infinity and NaN are real numbers here; True, text and complex numbers are not.

    Raises
    ------
    ValueError
        If they are not, or rows differ in length.
    """
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as problem:
        raise ValueError(f"{name} must be real numbers, got {values!r}") from problem
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name} must be real numbers, got {values!r}")
    return np.asarray(array, dtype=np.float64)


def require_array(
    name: str, values: ArrayLike, shape: tuple[int | str, ...] | None = None
) -> Array:
    """Require real numbers that are finite, and at most 1e150 in size.

    Parameters
    ----------
    name
        Of the argument.
    values
        Its value.
    shape
        Lengths of the axes; a letter stands for any length >= 1, the text "..." at the
        front for any axes. None for any shape with at least one number.

    Returns
    -------
    array
        The numbers as float64.

    Raises
    ------
    ValueError
        If they are not, or are of another shape.
    """
    array = require_real(name, values)
    if not _has_shape(array.shape, shape):
        told = f"({', '.join(map(str, shape or ()))}{',' * (len(shape or ()) == 1)})"
        wanted = f"have the shape {told}" if shape is not None else "not be empty"
        raise ValueError(f"{name} must {wanted}, got shape {array.shape}")
    if not _is_bounded(array):
        raise ValueError(
            f"{name} must be finite, of a size up to {LARGEST:g}, got {values!r}"
        )
    return array


def require_returned(name: str, values: ArrayLike, shape: tuple[int, ...]) -> Array:
    """Require that what a function returned is finite numbers of the given shape.

    Raises
    ------
    ValueError
        If it is not; ``name`` is the function's.
    """
    array = require_real(f"what {name} returns", values)
    if array.shape != shape or not np.all(np.isfinite(array)):
        raise ValueError(
            f"{name} must return finite numbers of shape {shape}, got shape "
            f"{array.shape} with {np.sum(~np.isfinite(array))} not finite"
        )
    return array


def _is_bounded(values: Array) -> bool:
    return bool(np.all(np.abs(values) <= LARGEST))


def _has_shape(given: tuple[int, ...], wanted: tuple[int | str, ...] | None) -> bool:
    if wanted is None or wanted[:1] == ("...",):
        tail = () if wanted is None else wanted[1:]
        given, inner = given[len(given) - len(tail) :], given
        if 0 in inner or len(given) < len(tail):
            return False
        wanted = tail
    return len(given) == len(wanted) and all(
        n >= 1 if isinstance(w, str) else n == w
        for n, w in zip(given, wanted, strict=True)
    )


# --- numbers ------------------------------------------------------------------------


def require_finite(**arguments: float) -> None:
    """Require single numbers, finite and at most 1e150 in size.

    Raises
    ------
    ValueError
        If one is not, or is an array.
    """
    for name, value in arguments.items():
        require_array(name, _single(name, value))


def require_positive(**arguments: float) -> None:
    """Require single numbers, finite and > 0.

    Raises
    ------
    ValueError
        If one is not, or is an array.
    """
    for name, value in arguments.items():
        require_all_positive(**{name: _single(name, value)})


def require_non_negative(**arguments: float) -> None:
    """Require single numbers, finite and >= 0.

    Raises
    ------
    ValueError
        If one is not, or is an array.
    """
    for name, value in arguments.items():
        require_all_non_negative(**{name: _single(name, value)})


def _single(name: str, value: float) -> float:
    if require_real(name, value).ndim != 0:
        raise ValueError(f"{name} must be a single number, got {value}")
    return value


def require_all_positive(**arguments: ArrayLike) -> None:
    """Require numbers, or arrays of numbers, that are finite and > 0, up to 1e150.

    Raises
    ------
    ValueError
        If one of them is not.
    """
    for name, values in arguments.items():
        numbers = require_real(name, values)
        if not np.all(np.isfinite(numbers) & (numbers > 0)):
            raise ValueError(f"{name} must be finite and > 0, got {values!s}")
        if not _is_bounded(numbers):
            raise ValueError(f"{name} must be at most {LARGEST:g}, got {values!s}")


def require_all_non_negative(**arguments: ArrayLike) -> None:
    """Require numbers, or arrays of numbers, that are finite and >= 0, up to 1e150.

    Raises
    ------
    ValueError
        If one of them is not.
    """
    for name, values in arguments.items():
        numbers = require_real(name, values)
        if not np.all(np.isfinite(numbers) & (numbers >= 0)):
            raise ValueError(f"{name} must be finite and >= 0, got {values!s}")
        if not _is_bounded(numbers):
            raise ValueError(f"{name} must be at most {LARGEST:g}, got {values!s}")


def require_broadcast(**arguments: ArrayLike) -> None:
    """Require numbers and arrays whose shapes broadcast together.

    Raises
    ------
    ValueError
        If they do not.
    """
    shapes = [np.shape(values) for values in arguments.values()]
    try:
        np.broadcast_shapes(*shapes)
    except ValueError as problem:
        raise ValueError(
            f"{', '.join(arguments)} must have shapes that fit each other, got {shapes}"
        ) from problem


def require_between(smallest: float, largest: float, **arguments: float) -> None:
    """Require single numbers from ``smallest`` to ``largest``, both included.

    Raises
    ------
    ValueError
        If one is outside, or is an array.
    """
    for name, value in arguments.items():
        given = require_real(name, value)
        if given.ndim != 0 or not smallest <= given <= largest:
            raise ValueError(
                f"{name} must be a number from {smallest:g} to {largest:g}, got {value}"
            )


def _is_integer(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def require_integer(smallest: int, **arguments: int) -> None:
    """Require integers that are at least ``smallest``, and at most 1e11.

    Raises
    ------
    ValueError
        If one is smaller or larger or not an integer.
    """
    for name, value in arguments.items():
        if not _is_integer(value) or value < smallest:
            raise ValueError(f"{name} must be an integer >= {smallest}, got {value!r}")
        if value > LARGEST_COUNT:
            raise ValueError(
                f"{name} must be an integer <= {LARGEST_COUNT:g}, got {value!r}"
            )


def require_integer_between(smallest: int, largest: int, **arguments: int) -> None:
    """Require integers from ``smallest`` to ``largest``, both included.

    Raises
    ------
    ValueError
        If one is outside or not an integer.
    """
    for name, value in arguments.items():
        if not _is_integer(value) or not smallest <= value <= largest:
            raise ValueError(
                f"{name} must be an integer from {smallest} to {largest}, got {value!r}"
            )


def require_integers(
    name: str, values: Sequence[int], smallest: int
) -> NDArray[np.int64]:
    """Require one or more integers, each at least ``smallest``; returns shape (n,).

    Raises
    ------
    ValueError
        If they are not, or are none.
    """
    given = list(values) if isinstance(values, Iterable) else []
    if isinstance(values, str) or not given:
        raise ValueError(f"{name} must be one or more integers, got {values!r}")
    for value in given:
        require_integer(smallest, **{name: value})
    return np.asarray(given, dtype=np.int64)


def require_seed(seed: int) -> None:
    """Require a seed of random numbers, an integer >= 0 of any size.

    Raises
    ------
    ValueError
        If it is none.
    """
    if not _is_integer(seed) or seed < 0:
        raise ValueError(f"seed must be an integer >= 0, got {seed!r}")


def require_generator(seed: int | np.random.Generator) -> np.random.Generator:
    """Require a seed, an integer >= 0, or a generator, and return a generator.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if isinstance(seed, np.random.Generator):
        return seed
    if not _is_integer(seed) or seed < 0:
        raise ValueError(f"seed must be an integer >= 0 or a Generator, got {seed!r}")
    return np.random.default_rng(seed)


def require_no_flags(name: str, values: object) -> None:
    """Refuse True and False in a list of numbers, where numpy takes them for 1 and 0.

    Raises
    ------
    ValueError
        If there is one.
    """
    if isinstance(values, Sequence) and any(isinstance(x, bool) for x in values):
        raise ValueError(f"{name} must be numbers, got {values!r}")


def require_jobs(jobs: int) -> None:
    """Require a number of joblib's jobs: an integer up to 10,000 in size, but not 0.

    Raises
    ------
    ValueError
        If it is not.
    """
    if not _is_integer(jobs) or jobs == 0 or abs(jobs) > MOST_JOBS:
        raise ValueError(
            f"jobs must be an integer other than 0, up to {MOST_JOBS}, got {jobs!r}"
        )


def require_choice(allowed: Sequence[object], **arguments: object) -> None:
    """Require that each argument is one of those allowed.

    Raises
    ------
    ValueError
        If one is not.
    """
    for name, value in arguments.items():
        # An array, which is not hashable, would compare entry by entry.
        if not isinstance(value, Hashable) or value not in allowed:
            raise ValueError(f"{name} must be one of {tuple(allowed)}, got {value!r}")


# --- sequences ----------------------------------------------------------------------


def require_times(times: ArrayLike) -> Array:
    """Require at least one time, >= 0 and increasing; returns shape (n,).

    Raises
    ------
    ValueError
        If the times are not.
    """
    t = np.atleast_1d(require_real("times", times))
    if not _is_increasing(t, 1) or t[0] < 0:
        raise ValueError(
            f"times must be >= 0 and increasing, shape (n,), got {times!r}"
        )
    return t


def _is_increasing(values: Array, fewest: int) -> bool:
    return (
        values.ndim == 1
        and len(values) >= fewest
        and _is_bounded(values)
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
    if snapshots is None:
        return [steps]
    require_real(name, snapshots)
    given: list[Any] = list(np.atleast_1d(np.asarray(snapshots, dtype=object)))
    allowed = (
        len(given) > 0
        and all(_is_integer(step) for step in given)
        and given == sorted(set(given))
        and 0 <= given[0] <= given[-1] <= steps
    )
    if not allowed:
        raise ValueError(
            f"{name} must be increasing integers from 0 to {steps}, got {snapshots} "
            f"for steps = {steps}"
        )
    return [int(step) for step in given]


def require_edges(edges: ArrayLike) -> Array:
    """Require the edges of n >= 1 bins, finite and increasing; returns (n + 1,).

    Raises
    ------
    ValueError
        If they are not.
    """
    faces = require_real("edges", edges)
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
    matrix = require_real(name, values)
    if matrix.ndim == 0:
        matrix = matrix.reshape(1, 1)
    if matrix.ndim != 2 or not _is_bounded(matrix):
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
    matrix = require_real(name, values)
    if matrix.ndim == 0:
        matrix = matrix * np.eye(size or 1)
    expected = "square" if size is None else f"of shape {(size, size)}"
    if not matrix.size or matrix.shape != (size or len(matrix),) * 2:
        raise ValueError(f"{name} must be {expected}, got shape {matrix.shape}")
    if (
        not _is_bounded(matrix)
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
    first, second = require_real(name1, values1), require_real(name2, values2)
    for name, values in ((name1, first), (name2, second)):
        if not _is_bounded(values):
            raise ValueError(f"{name} must be finite, got {values!r}")
    if first.ndim < 2 or first.size == 0 or first.shape[-1] != size:
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
    points = require_real(name, values)
    if (
        points.ndim != 2
        or 0 in points.shape
        or points.shape[1] != (width or points.shape[1])
        or not _is_bounded(points)
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
    field = require_real(name, values)
    if field.shape != shape or not _is_bounded(field):
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
