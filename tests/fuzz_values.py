"""Bad values for an argument, by the kind of a value that is good."""

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

HUGE = 1e300
HUGE_COUNT = 10**12

ANYTHING_ELSE = {"text": "text", "none": None, "object": object()}
NUMBERS = {"nan": np.nan, "inf": np.inf, "complex": 1j, "true": True}


def bad_values(name: str, good: object) -> dict[str, Any]:
    """Bad values by their names; which ones depends on the kind of the good value.

    A name says what is wrong. Values of the right kind that may well be allowed, as
    zero or one row less, are among them.
    """
    found = dict(ANYTHING_ELSE)
    match good:
        case bool() | np.bool_():
            # The text "no" is true.
            return found | {"text": "no", "number": 2.0}
        case str():
            return found | {"text": "nonsense", "number": 1.0, "list": [good]}
        case np.random.Generator():
            return found | {"number": 1.5, "negative": -1}
        case Integral() if name == "seed":
            return found | NUMBERS | {"negative": -1, "fraction": 1.5, "list": [0.5]}
        case Integral():
            return (
                found
                | NUMBERS
                | _beyond(good, -1, 0, HUGE_COUNT)
                | {"fraction": good + 0.5}
            )
        case Real():
            return found | NUMBERS | _beyond(good, -1.0, 0.0, HUGE)
        case Tensor():
            return found | _bad_tensors(good)
        case np.ndarray():
            return found | _bad_arrays(good)
        case Mapping():
            return found | _bad_mappings(good)
        case tuple() if hasattr(good, "_replace"):
            return found | {"number": 1.0} | _bad_fields(name, good)
        case [first, *_] if all(isinstance(x, Integral) for x in good):
            counts = {"negative": -first - 1, "huge": HUGE_COUNT, "fraction": 0.5}
            return (
                found
                | {"empty": [], "nested": [list(good)], "textual": ["a"]}
                | {
                    key: [*good[:-1], value]
                    for key, value in (NUMBERS | counts).items()
                }
            )
        case [*_] if all(isinstance(x, Real) for x in good):
            return found | _bad_arrays(np.array(good))
        case [*_]:
            return found | {"number": 1.0, "empty": []}
        case _ if callable(good):
            return found | {"number": 1.0} | _bad_functions(good)
    return found | {"number": 1.0}


def _beyond(good: Any, negative: float, zero: float, huge: float) -> dict[str, Any]:
    return {"negative": negative, "zero": zero, "huge": huge, "array": [good, good]}


def _bad_arrays(good: np.ndarray) -> dict[str, Any]:
    found = {
        "textual": np.full(good.shape, "a"),
        "objects": np.full(good.shape, None),
        "complex": good + 1j,
        "nested": good[None],
        "ragged": [[1.0], [1.0, 2.0]],
    }
    for axis in range(good.ndim):
        found[f"empty{axis}"] = good.take([], axis)
        found[f"short{axis}"] = good.take(range(good.shape[axis] - 1), axis)
        found[f"long{axis}"] = np.concatenate([good, good.take([-1], axis)], axis)
    if good.dtype.kind in "iu":
        found |= {"fraction": good + 0.5, "negative": -good - 1}
        numbers = {}
    else:
        numbers = {"nan": np.nan, "inf": np.inf, "huge": HUGE}
    for name, number in numbers.items():
        found[name] = good.astype(float)
        found[name].flat[-1] = number
    return found


def _bad_tensors(good: Tensor) -> dict[str, Any]:
    found: dict[str, Any] = {"nested": good[None], "number": 1.0}
    for axis, size in enumerate(good.shape):
        found[f"empty{axis}"] = good.narrow(axis, 0, 0)
        found[f"short{axis}"] = good.narrow(axis, 0, size - 1)
        found[f"long{axis}"] = torch.cat([good, good.narrow(axis, 0, 1)], axis)
    if good.is_floating_point():
        found |= {"complex": good + 1j, "whole": good.long()}
        numbers = {"nan": np.nan, "inf": np.inf}
        if good.dtype == torch.float64:
            found["single"] = good.float()
            numbers["huge"] = HUGE
        for name, number in numbers.items():
            found[name] = good.detach().clone()
            found[name].view(-1)[-1] = number
    return found


def _bad_mappings(good: Mapping[Any, Any]) -> dict[str, Any]:
    first = next(iter(good))
    values = {"nan": np.nan, "complex": 1j, "textual": "a", "nothing": None}
    return (
        {"list": list(good), "number": 1.0, "key": {object(): good[first]}}
        | {name: {**good, first: value} for name, value in values.items()}
    )  # fmt: skip


def _bad_fields(name: str, good: Any) -> dict[str, Any]:
    """One field at a time that is of another shape, or not finite."""
    found = {"tuple": tuple(good)[:-1]}
    for field, value in good._asdict().items():
        if isinstance(value, np.ndarray):
            for wrong in ("nested", "nan"):
                bad = _bad_arrays(value)[wrong]
                found[f"{field}_{wrong}"] = good._replace(**{field: bad})
        elif not isinstance(value, (str, list)):
            found[f"{field}_none"] = good._replace(**{field: None})
    return found


def _bad_functions(good: Callable[..., Any]) -> dict[str, Any]:
    """What returns something else than it should."""

    def returns_nan(*arguments: Any, **named: Any) -> Any:
        return good(*arguments, **named) * np.nan

    def returns_wrong_shape(*arguments: Any, **named: Any) -> Any:
        value = good(*arguments, **named)
        if isinstance(value, Tensor):
            return torch.stack([value, value, value])
        return np.stack([value, value, value])

    return {
        "returns_nan": returns_nan,
        "returns_shape": returns_wrong_shape,
        "returns_text": lambda *arguments, **named: "text",
        "returns_none": lambda *arguments, **named: None,
    }


def is_finite(result: object) -> bool:
    """Tell whether all numbers in a result are finite, and there is at least one."""
    numbers = list(_numbers(result))
    return bool(numbers) and all(np.all(np.isfinite(x)) for x in numbers)


def _numbers(result: Any) -> Any:
    if isinstance(result, Tensor):
        yield result.detach().numpy()
    elif isinstance(result, np.ndarray) and result.dtype.kind in "biufc":
        yield result
    elif isinstance(result, Real | complex):
        yield float(abs(result))
    elif isinstance(result, Mapping):
        yield from (x for value in result.values() for x in _numbers(value))
    elif isinstance(result, Sequence) and not isinstance(result, str):
        yield from (x for value in result for x in _numbers(value))
    elif hasattr(result, "__dict__"):
        yield from (x for value in vars(result).values() for x in _numbers(value))
