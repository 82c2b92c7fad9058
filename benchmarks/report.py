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
        What ``measure`` found, each as a dictionary.

    Returns
    -------
    dict
        Plain texts, numbers, lists and dictionaries; None for what was not measured.
    """
    texts = ("name", "module", "kernel", "measures", "size_name", "exact", "error_name")
    target = case.target and {
        name: value
        for name, value in vars(case.target).items()
        if name == "size" or value is not None
    }
    cleaned = [
        {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in s.items()}
        for s in series
    ]
    grown = growth(series[0]["sizes"], series[0]["seconds"])
    return {
        **{text: getattr(case, text) for text in texts},
        "tolerance": case.tolerance,
        "target": target,
        "growth": grown._asdict(),
        "series": cleaned,
    }


def ratio(entry: Entry, series: dict[str, Any]) -> float:
    """CPU time of a contender at the largest of its sizes, in units of the kernel's."""
    size = series["sizes"][-1]
    kernel = entry["series"][0]
    own: float = kernel["seconds"][kernel["sizes"].index(size)]
    return float(series["seconds"][-1]) / own


def table(entry: Entry) -> str:
    """Write the table of a case for a terminal.

    Parameters
    ----------
    entry
        What ``described`` returns.

    Returns
    -------
    str
        Lines: kernel and growth, one for each contender, the target if there is one.
    """
    grown = entry["growth"]
    lines = [
        f"\n{entry['module']}: {entry['name']} ({entry['kernel']})",
        f"  cost ~ {entry['size_name']}^{grown['exponent']:.2f} "
        f"({grown['lowest']:.2f} to {grown['highest']:.2f}), "
        f"error: {entry['error_name']}, asked for {entry['tolerance']:.0e}",
        _row("", "size", "CPU s", "ratio", "error", "MB", "first s"),
    ]
    for series in entry["series"]:
        if not series["sizes"]:
            lines.append(_row(series["name"], series["missing"]))
            continue
        memory = series["megabytes"]
        reached = series["errors"][-1]
        sign = "" if reached <= series["asked"][-1] else " !"
        lines.append(
            _row(
                series["name"],
                str(series["sizes"][-1]),
                f"{series['seconds'][-1]:.3g}",
                f"{ratio(entry, series):.3g}",
                f"{reached:.1e}{sign}",
                "-" if memory is None else f"{memory:.3g}",
                f"{series['first_seconds']:.2g}",
            )
        )
    lines += [f"  {line}" for line in verdicts(entry)]
    return "\n".join(lines)


def _row(name: str, *cells: str) -> str:
    return f"  {name:40}" + "".join(f"{cell:>11}" for cell in cells)


def verdicts(entry: Entry) -> list[str]:
    """Say which targets of a case were met."""
    target = entry["target"]
    if not target:
        return []
    kernel = entry["series"][0]
    place = kernel["sizes"].index(target["size"])
    reached = {
        "seconds": kernel["seconds"][place],
        "error": kernel["errors"][place],
        "megabytes": kernel["megabytes"],
    }
    units = {"seconds": " s", "error": "", "megabytes": " MB"}
    return [
        f"{value:.2g}{units[what]}, target at most {target[what]:.2g}{units[what]}: "
        + ("met" if value <= target[what] else "missed")
        for what, value in reached.items()
        if what in target and value is not None
    ]


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
