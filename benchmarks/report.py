"""What a run leaves: the file, and a table of ratios for each case."""

import math
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.harness import Case, growth

Entry = dict[str, Any]
"""A case as the file has it."""


def described(case: Case, series: list[dict[str, Any]]) -> Entry:
    """Put a case and its measurements into the form of the file.

    Parameters
    ----------
    case
        The case.
    series
        What ``measure`` found, each as a dictionary: the kernel, the reference, and
        the peers.

    Returns
    -------
    dict
        Plain texts, numbers, lists and dictionaries; None for what was not measured.
        To each series is added its ``ratio``: the CPU time at the largest of its sizes
        in units of the kernel's.
    """
    texts = ("name", "module", "kernel", "measures", "size_name", "exact", "error_name")
    kernel = series[0]
    return {
        **{text: getattr(case, text) for text in texts},
        "growth": growth(kernel["sizes"], kernel["seconds"])._asdict(),
        "series": [
            {
                name: None if isinstance(value, float) and math.isnan(value) else value
                for name, value in {**one, "ratio": _ratio(kernel, one)}.items()
            }
            for one in series
        ],
        "targets": _targets(case, kernel),
    }


def _ratio(kernel: dict[str, Any], series: dict[str, Any]) -> float:
    if not series["sizes"]:
        return math.nan
    place = kernel["sizes"].index(series["sizes"][-1])
    return float(series["seconds"][-1] / kernel["seconds"][place])


def _targets(case: Case, kernel: dict[str, Any]) -> list[dict[str, Any]]:
    """Compare what was reached at a size with what is asked for there."""
    if case.target is None:
        return []
    target = case.target
    place = kernel["sizes"].index(target.size)
    reached = {
        "seconds": kernel["seconds"][place],
        "megabytes": kernel["megabytes"],
        "error": kernel["errors"][place],
    }
    return [
        {"what": what, "size": target.size, "reached": value, "asked": asked}
        for what, value in reached.items()
        if (asked := getattr(target, what)) is not None and value is not None
    ]


def table(entry: Entry) -> str:
    """Write the table of a case for a terminal.

    Parameters
    ----------
    entry
        What ``described`` returns.

    Returns
    -------
    str
        Lines: kernel and growth, one for each contender, those of the targets.
    """
    grown = entry["growth"]
    lines = [
        f"\n{entry['module']}: {entry['name']} ({entry['kernel']})",
        f"  CPU time ~ {entry['size_name']}^{grown['exponent']:.2f} "
        f"({grown['lowest']:.2f} to {grown['highest']:.2f}); "
        f"error: {entry['error_name']}, ! where it is above the one asked for",
        _row("", "size", "CPU s", "ratio", "error", "MB", "first s"),
    ]
    for series in entry["series"]:
        if not series["sizes"]:
            lines.append(f"  {series['name']:40}{series['missing']}")
            continue
        memory, error = series["megabytes"], series["errors"][-1]
        cells = (
            str(series["sizes"][-1]),
            f"{series['seconds'][-1]:.3g}",
            f"{series['ratio']:.3g}",
            f"{error:.1e}{'' if error <= series['asked'][-1] else ' !'}",
            "-" if memory is None else f"{memory:.3g}",
            f"{series['first_seconds']:.2g}",
        )
        lines.append(_row(series["name"], *cells))
    for target in entry["targets"]:
        verdict = "met" if target["reached"] <= target["asked"] else "missed"
        lines.append(
            f"  {target['what']} at {target['size']} {entry['size_name']}: "
            f"{target['reached']:.2g}, target at most {target['asked']:.2g}: {verdict}"
        )
    return "\n".join(lines)


def _row(name: str, *cells: str) -> str:
    return f"  {name:40}" + "".join(f"{cell:>11}" for cell in cells)


def machine() -> dict[str, Any]:
    """Describe where and when a run was made.

    Returns
    -------
    dict
        Processor, cores, memory in 10^9 bytes, system, date and versions.
    """
    libraries = ("numpy", "scipy", "torch", "fpbook")
    return {
        "processor": _processor(),
        "cores": _cores(),
        "gigabytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9,
        "system": f"{platform.system()} {platform.machine()}",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "versions": {
            "Python": platform.python_version(),
            **{name: version(name) for name in libraries},
        },
    }


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines: Sequence[str] = file.read_text().splitlines() if file.exists() else []
    names = [line.partition(":")[2] for line in lines if line.startswith("model name")]
    return names[0].strip() if names else platform.processor()
