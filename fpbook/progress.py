"""Progress bars for long computations, absent from built pages."""

import functools
import os
from typing import Any, Protocol, Self

from fpbook.validation import require_non_negative, require_type

STATIC_ENVIRONMENT = "FPBOOK_STATIC"
SECONDS_BEFORE_SHOWN = 2.0
ROUNDING = 1e-9
"""Share of the total by which sums of a million steps may miss it."""


class Bar(Protocol):
    """What a computation needs from a progress bar."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: Any) -> Any: ...
    def update(self, amount: float) -> Any: ...


class _NoBar:
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: Any) -> None:
        return None

    def update(self, amount: float) -> None:
        return None


def building_static_pages() -> bool:
    """Tell whether the code runs for the static site, where nobody can interact.

    Returns
    -------
    bool
        True if the environment variable ``FPBOOK_STATIC`` is set to anything but
        the empty string or ``0``; the book's build sets it.
    """
    return os.environ.get(STATIC_ENVIRONMENT, "0") not in ("", "0")


def bar(total: float, description: str) -> Bar:
    """Open a progress bar that shows itself only if the work takes a while.

    Parameters
    ----------
    total
        Amount of work, in the unit later given to ``update`` (steps, time, ...).
    description
        What is being computed.

    Returns
    -------
    Bar
        A context manager with ``update(amount)``. It draws nothing during the
        first two seconds, while the static site is built, or without tqdm.

    Raises
    ------
    ValueError
        If the amount is no number, negative or not finite.
    TypeError
        If the description is no text.
    """
    require_non_negative(total=total)
    require_type(str, description=description)
    if building_static_pages():
        return _NoBar()
    try:
        kind = _rounded_bar()
    except ImportError:
        return _NoBar()
    opened: Bar = kind(
        total=total,
        desc=description,
        delay=SECONDS_BEFORE_SHOWN,
        leave=False,
        bar_format="{desc}: {percentage:3.0f} %|{bar}| {elapsed} < {remaining}",
    )
    return opened


# Once for all bars: tqdm starts a thread that watches over each class of bars.
@functools.cache
def _rounded_bar() -> Any:
    from tqdm.auto import tqdm

    # mypy sees a base class of type Any: tqdm brings no types.
    class Rounded(tqdm):  # type: ignore[misc]
        """A last amount that passes the total by rounding alone ends there.

        tqdm would warn. What passes it by more is a caller's mistake, and is shown.
        """

        def update(self, amount: float = 1) -> Any:
            left = self.total - self.n
            passes_by = amount - left
            return super().update(
                left if 0 < passes_by <= ROUNDING * self.total else amount
            )

    return Rounded
