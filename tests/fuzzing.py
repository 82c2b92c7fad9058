"""Give bad values to every public function, one argument at a time.

Each has to be refused by a ``ValueError`` or ``TypeError`` that names the argument.
``python tests/fuzzing.py`` prints how many are, function by function.
"""

import importlib
import inspect
import io
import pkgutil
import re
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple

import matplotlib
from fuzz_values import bad_values, is_finite
from joblib import parallel_config

import fpbook

matplotlib.use("Agg")

LONGEST = 5.0
"""Seconds after which a call counts as one that does not end."""

CHECKS = {"validation"}
"""Modules that are the checks themselves, with tests of their own."""


class Call(NamedTuple):
    """A call that is right, and which wrong-looking values it takes as well.

    Attributes
    ----------
    function
        Module and name, as ``"annealed.paramagnet"``; a method is
        ``"module.Class.method"`` and has its object as the argument ``self``.
    arguments
        Values by the names of arguments.
    allowed
        Reasons by (arguments, names of bad values), each one or several words, for
        values that are right for this function.
    then
        What to do with the result, where the function returns another function.
    """

    function: str
    arguments: dict[str, Any]
    allowed: Mapping[tuple[str, str], str] = MappingProxyType({})
    then: Callable[[Any], Any] = lambda result: result

    def reason(self, argument: str, bad: str) -> str | None:
        for (arguments, names), reason in self.allowed.items():
            if argument in arguments.split() and bad in names.split():
                return reason
        return None


class Input(NamedTuple):
    """One bad value for one argument of a call."""

    call: Call
    argument: str
    bad: str
    value: Any

    def __str__(self) -> str:
        return f"{self.call.function}-{self.argument}-{self.bad}"


# --- what is public -----------------------------------------------------------------


@cache
def public_functions() -> dict[str, Callable[..., Any]]:
    """Functions, classes and methods whose docstring has a section of parameters."""
    found: dict[str, Callable[..., Any]] = {}
    for module in sorted(info.name for info in pkgutil.iter_modules(fpbook.__path__)):
        if module in CHECKS or module.startswith("_"):
            continue
        members = vars(importlib.import_module(f"fpbook.{module}"))
        for name, member in members.items():
            if name.startswith("_") or getattr(member, "__module__", "") != (
                f"fpbook.{module}"
            ):
                continue
            if _has_parameters(member):
                found[f"{module}.{name}"] = member
            if inspect.isclass(member):
                found |= {
                    f"{module}.{name}.{key}": method
                    for key, method in vars(member).items()
                    if not key.startswith("_") and _has_parameters(method)
                }
    return found


def _has_parameters(member: object) -> bool:
    section = re.search(r"Parameters\n\s*-+\n", inspect.getdoc(member) or "")
    return callable(member) and section is not None


# --- one call -----------------------------------------------------------------------


def inputs(call: Call) -> Iterator[Input]:
    """Every bad value for every argument of a call, except what is a default."""
    parameters = inspect.signature(public_functions()[call.function]).parameters
    for argument, good in call.arguments.items():
        if argument == "self":
            continue
        for name, value in bad_values(argument, good).items():
            # Arguments of a **mapping have no parameter of their own.
            parameter = parameters.get(argument)
            if name != "none" or parameter is None or parameter.default is not None:
                yield Input(call, argument, name, value)


class TooLongError(BaseException):
    """A call did not end in time; not an ``Exception``, so that none catches it."""


def run(call: Call) -> Any:
    """Run a call, or stop it after a while."""

    def stop(signum: int, frame: object) -> None:
        raise TooLongError

    function = public_functions()[call.function]
    parameters = inspect.signature(function).parameters
    others = dict(call.arguments)
    first = [
        others.pop(name)
        for name, parameter in parameters.items()
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY
    ]
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    try:
        # Processes of their own would need longer to start than a call may take.
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            parallel_config(backend="threading"),
        ):
            # What a bad value warns of does not matter; how the call ends does.
            warnings.simplefilter("ignore")
            return call.then(function(*first, **others))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


REFUSED, TOLD, ANSWERED, ALLOWED = "refused", "told", "answered", "allowed"
GOOD = (REFUSED, TOLD, ANSWERED, ALLOWED)


def outcome(tried: Input) -> str:
    """What a bad value led to: one of ``GOOD``, else a description of the failure.

    ``TOLD`` is another error that the docstring announces, such as an overflow,
    ``ANSWERED`` a huge value with a finite result, ``ALLOWED`` a value that the table
    of calls allows.
    """
    call, argument, bad, value = tried
    found = _found(
        call._replace(arguments=call.arguments | {argument: value}), argument
    )
    if call.reason(argument, bad) is not None:
        return "refused, but listed as allowed" if found == REFUSED else ALLOWED
    if found == ANSWERED and bad != "huge":
        return "returned"
    return found


def _found(call: Call, argument: str) -> str:
    try:
        result = run(call)
    except TooLongError:
        return "does not end"
    except (ValueError, TypeError) as error:
        if re.search(rf"\b{argument}\b", str(error)) and _is_ours(error):
            return REFUSED
        return f"does not name {argument}: {type(error).__name__}: {error}"[:300]
    except Exception as error:
        documented = inspect.getdoc(public_functions()[call.function]) or ""
        if f"{type(error).__name__}\n" in documented and str(error):
            return TOLD
        return f"{type(error).__name__}: {error}"[:300]
    return ANSWERED if is_finite(result) else "returned numbers that are not finite"


def _is_ours(error: Exception) -> bool:
    """Tell whether the error was raised in the package, not deep in a library."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and "fpbook" in trace.tb_frame.f_code.co_filename


# --- the command --------------------------------------------------------------------


def main(calls: list[Call], names: list[str]) -> int:
    """Print a table of functions and outcomes, and every failure; count these."""
    total: Counter[str] = Counter()
    print(f"{'function':50} {'inputs':>6} " + " ".join(f"{x:>9}" for x in GOOD))
    failures = []
    for call in calls:
        if names and not any(call.function.startswith(name) for name in names):
            continue
        begin = time.perf_counter()
        found = [(str(tried), outcome(tried)) for tried in inputs(call)]
        run(call)
        counts = Counter(x if x in GOOD else "failed" for _, x in found)
        seconds = time.perf_counter() - begin
        row = " ".join(f"{counts[x]:9}" for x in GOOD)
        print(f"{call.function:50} {len(found):6} {row} {seconds:8.2f} s")
        total += counts
        failures += [f"{name}: {x}" for name, x in found if x not in GOOD]
    print(f"{'all':50} {total.total():6} " + " ".join(f"{total[x]:9}" for x in GOOD))
    print(*failures, f"{len(failures)} failures", sep="\n")
    return len(failures)


if __name__ == "__main__":
    from fuzz_calls_a_to_g import CALLS as FIRST
    from fuzz_calls_k_to_w import CALLS as SECOND

    sys.exit(main([*FIRST, *SECOND], sys.argv[1:]) > 0)
