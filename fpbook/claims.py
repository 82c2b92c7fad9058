"""Claims: numbers that a page states, checked where they are computed.

A claim prints one row on the page and raises if it fails, so that a page with a
wrong number cannot be built. The book's ledger collects the rows from the built
pages.
"""

import html
import json
import re
import sys
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpbook.validation import (
    require_real,
    require_type,
)

MOST_NUMBERS_SHOWN = 6


class FalseClaimError(AssertionError):
    """A number on a page is not what the page says."""


class NotYetError(FalseClaimError):
    """An answer to an exercise is missing or not right yet."""

    def _render_traceback_(self) -> list[str]:
        """Show the message alone in a notebook: the fault is in no line of code."""
        return [str(self)]


@dataclass(frozen=True)
class Row:
    """One checked claim, ready to be shown; every field is text for the page."""

    statement: str
    predicted: str
    measured: str
    verdict: str
    source: str

    @property
    def anchor(self) -> str:
        """Identifier of the row on its page, for links."""
        words = re.sub(r"[^a-z0-9]+", "-", self.statement.lower()).strip("-")
        return f"claim-{words[:80].rstrip('-')}"

    def __str__(self) -> str:
        return (
            f"{self.verdict.upper()}: {self.statement} | predicted {self.predicted} "
            f"| measured {self.measured} | {self.source}"
        )

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        fields = {name: html.escape(text) for name, text in asdict(self).items()}
        page = (
            f'<div class="fpbook-claim fpbook-claim-{fields["verdict"]}" '
            f'id="{self.anchor}" data-claim="{html.escape(json.dumps(asdict(self)))}">'
            f'<span class="fpbook-claim-verdict">{fields["verdict"]}</span> '
            f'<span class="fpbook-claim-statement">{fields["statement"]}</span> '
            f'<span class="fpbook-claim-numbers">predicted {fields["predicted"]}, '
            f"measured {fields['measured']}</span> "
            f'<span class="fpbook-claim-source">{fields["source"]}</span></div>'
        )
        return {"text/html": page, "text/plain": str(self)}


def check(
    statement: str,
    measured: ArrayLike,
    expected: ArrayLike | None = None,
    *,
    atol: float | None = None,
    rtol: float | None = None,
    interval: tuple[float, float] | None = None,
    error: ArrayLike | None = None,
    hint: str = "",
    source: str,
) -> None:
    """Check a claim, show it as one row, and raise if it does not hold.

    Exactly one of ``atol``, ``rtol`` and ``interval`` says what is accepted:
    ``|measured - expected| <= atol``, ``|measured - expected| <= rtol * |expected|``,
    or ``low <= measured <= high``. Arrays are compared element by element, and every
    element has to pass.

    With a ``hint`` it is the self-check of an exercise: ``measured`` or ``expected`` is
    a reader's answer, and ``...`` one that is not written yet.

    Parameters
    ----------
    statement
        The claim as a sentence in plain text (no TeX), unique on its page.
    measured
        What this page computed: a number or an array of numbers.
    expected
        The prediction, of the shape of ``measured`` or a scalar; needed by ``atol``
        and ``rtol``, shown if given with ``interval``.
    atol, rtol
        Accepted absolute or relative deviation, >= 0.
    interval
        Accepted range ``(low, high)``, in the unit of ``measured``.
    error
        Uncertainty of ``measured``, shown after ±: a standard error or, for a fitted
        power, half its 95 % interval.
    hint
        What to look at again if the answer of an exercise is not accepted.
    source
        Where the prediction comes from: an equation of the page, a paper.

    Raises
    ------
    FalseClaimError
        If the claim does not hold or a number is not finite; an ``AssertionError``.
    TypeError
        If a text or the interval is of another type.
    NotYetError
        In the self-check of an exercise instead of it, with the hint; also if the
        answer is not written yet. A kind of ``FalseClaimError``.
    ValueError
        If not exactly one kind of tolerance is given, ``expected`` is missing, a
        tolerance is negative, the interval is empty or a text is empty.
    """
    tolerances = [k for k in (atol, rtol, interval) if k is not None]
    if len(tolerances) != 1:
        raise ValueError(
            f"give exactly one of atol, rtol and interval, got {len(tolerances)} of "
            "them"
        )
    for name, text in (("statement", statement), ("source", source)):
        require_type(str, **{name: text})
        if not text.strip():
            raise ValueError(f"{name} must not be empty, got {text!r}")
    require_type(str, hint=hint)
    if hint:
        _ask_for(statement, measured, expected, atol, rtol, interval)
    values = _numbers("measured", measured)
    if interval is not None:
        require_type((tuple, list, np.ndarray), interval=interval)
        if require_real("interval", interval).shape != (2,):
            raise ValueError(f"interval must be two numbers, got {interval}")
        low, high = interval
        if not low < high or (low == -np.inf and high == np.inf):
            raise ValueError(
                f"interval must be (low, high) with low < high, got {interval}"
            )
        right = (low <= values) & (values <= high)
        predicted = f"{_show(low)} to {_show(high)}"
        if expected is not None:
            predicted = f"{_show(_numbers('expected', expected))} ({predicted})"
        found = _show(values)
    else:
        if expected is None:
            raise ValueError("expected must be given with atol or rtol, got None")
        target = _numbers("expected", expected)
        if target.shape not in ((), values.shape):
            if hint:
                told = f"shapes {values.shape} and {target.shape} cannot be compared"
                raise NotYetError(f"Not yet: {statement}\nThe {told}.\nHint: {hint}")
            raise ValueError(
                f"expected must be a scalar or have the shape {values.shape} of "
                f"measured, got {target.shape}"
            )
        right, predicted, found = _compare(values, target, atol, rtol)
        # Of infinity any number is within any relative deviation.
        right = right & np.isfinite(target)
    if error is not None:
        spread = _numbers("error", error)
        if spread.shape not in ((), values.shape):
            raise ValueError(
                f"error must be a scalar or have the shape {values.shape} of "
                f"measured, got {spread.shape}"
            )
        if not np.all((spread >= 0) & (spread < np.inf)):
            raise ValueError(f"error must be finite and >= 0, got {error}")
        found += f" ± {_show(spread)}"
    right = right & np.isfinite(values)
    holds = bool(right.all())
    if not holds and hint:
        # Neither the row nor the deviation: both would say the answer.
        told = f"Not accepted{_places(right)}; {_accepted(atol, rtol, interval)}."
        raise NotYetError(f"Not yet: {statement}\n{told}\nHint: {hint}")
    row = Row(statement, predicted, found, "holds" if holds else "fails", source)
    _show_row(row)
    if not holds:
        raise FalseClaimError(str(row))


def _ask_for(
    statement: str,
    measured: object,
    expected: object,
    atol: float | None,
    rtol: float | None,
    interval: tuple[float, float] | None,
) -> None:
    """Ask for an answer that has not been written, or is no number."""
    answers = [measured, expected] if interval is None else [measured]
    if any(_is_open(answer) for answer in answers):
        raise NotYetError(
            f"No answer yet: {statement}\nWrite it where the dots (...) are, and end a "
            f"function with return; {_accepted(atol, rtol, interval)}.\n"
            "Run that cell, then this one. A hint comes after the first try."
        )
    for answer in answers:
        try:
            np.asarray(answer, dtype=np.float64)
        except (TypeError, ValueError) as problem:
            told = f"An answer is made of real numbers, this is {answer!r}"
            raise NotYetError(f"Not yet: {statement}\n{told}.") from problem


def _is_open(answer: object) -> bool:
    """Tell whether an answer has dots, or nothing, where numbers should be."""
    if isinstance(answer, (list, tuple)):
        return any(_is_open(part) for part in answer)
    if isinstance(answer, np.ndarray) and answer.dtype == object:
        return any(_is_open(part) for part in answer.ravel())
    return answer is ... or answer is None


def _places(right: NDArray[np.bool_]) -> str:
    """Say which of several numbers are not accepted."""
    wrong = np.flatnonzero(~right) + 1
    if right.size == 1:
        return ""
    if len(wrong) > MOST_NUMBERS_SHOWN:
        return f": {len(wrong)} of {right.size} numbers"
    listed = ", ".join(f"number {place}" for place in wrong)
    return f": {listed} of {right.size}"


def _accepted(
    atol: float | None, rtol: float | None, interval: tuple[float, float] | None
) -> str:
    if interval is not None:
        return f"accepted are numbers from {_show(interval[0])} to {_show(interval[1])}"
    if atol == 0:
        return "accepted is the exact answer"
    if atol is not None:
        return f"accepted is a deviation of up to {atol:g}"
    return f"accepted is a relative deviation of up to {rtol:g}"


def _numbers(name: str, values: ArrayLike) -> NDArray[np.float64]:
    answers = np.asarray(values, dtype=object).ravel()
    if all(isinstance(answer, bool | np.bool_) for answer in answers):
        values = np.asarray(values, dtype=float)
    numbers = require_real(name, values)
    if numbers.size == 0:
        raise ValueError(f"{name} must hold at least one number, got none")
    return numbers


def _compare(
    values: NDArray[np.float64],
    target: NDArray[np.float64],
    atol: float | None,
    rtol: float | None,
) -> tuple[NDArray[np.bool_], str, str]:
    for name, tolerance in (("atol", atol), ("rtol", rtol)):
        if tolerance is not None and not (
            require_real(name, tolerance).ndim == 0 and 0 <= tolerance < np.inf
        ):
            raise ValueError(f"{name} must be finite and >= 0, got {tolerance}")
    deviation = np.abs(values - target)
    if atol is not None:
        tolerance, reached, allowed = atol, deviation, np.array(atol)
    else:
        assert rtol is not None
        tolerance = rtol
        reached, allowed = deviation, rtol * np.abs(target)
    right = reached <= allowed
    unit = "" if atol is not None else " relative"
    if rtol is not None:
        has_scale = np.isfinite(target) & (target != 0)
        scale = np.where(has_scale, np.abs(target), 1.0)
        reached = deviation / scale
    found = (
        f"{_show(values)} (off by {np.max(reached):.1e}{unit}, allowed {tolerance:g})"
    )
    return right, _show(target), found


def _show(values: ArrayLike) -> str:
    numbers = np.atleast_1d(np.asarray(values, dtype=np.float64)).ravel()
    shown = [f"{number:.5g}" for number in numbers]
    if len(shown) > MOST_NUMBERS_SHOWN:
        return f"{', '.join(shown[:3])}, … {shown[-1]} ({len(shown)} numbers)"
    return ", ".join(shown)


def _show_row(row: Row) -> None:
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython():
        from IPython.display import display

        display(row)
    else:
        print(row)
