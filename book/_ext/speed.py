"""What the page of benchmarks says about the last run, read from its file.

``{speed-machine}`` describes the computer, ``{speed-summary}`` counts the comparisons
and names the ways that are faster, ``{speed-targets}`` lists the targets, and
``{speed-part} module ...`` has a figure and two tables for some modules, with its
content as the caption. Nothing is measured here: ``make benchmark`` writes the file.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from docutils import nodes
from docutils.parsers.rst import directives
from ledger import Cell, columns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from sphinx.util.docutils import SphinxDirective

from fpbook.figures import COLOURS, RAISED, TEXT_WIDTH, plain_powers

FILE = "benchmarks/last_run.json"
FOLDER = Path("_build") / "speed"
"""Of the figures, in the repository."""

Entry = dict[str, Any]
LOOKS = (
    ("fpbook", COLOURS[0], "o"),
    ("plain reference", COLOURS[6], "s"),
    ("peers", COLOURS[1], "^"),
)
"""Name, colour and marker of the kernel, the reference, and of all peers."""
LOOK = "fpbook-speed"
ACROSS, PANEL_HEIGHT = 2, 1.75
"""Panels side by side, and inches from one row of them to the next."""


class _OfTheRun(SphinxDirective):
    """Reads the file of the last run."""

    def read(self) -> dict[str, Any]:
        self.env.note_dependency(FILE)
        text = (Path(self.env.srcdir) / FILE).read_text("utf-8")
        run: dict[str, Any] = json.loads(text)
        return run

    def parsed(self, text: str) -> list[nodes.Node]:
        return list(self.parse_text_to_nodes(text))


class Machine(_OfTheRun):
    """Says on which computer, when and with which versions the run was made."""

    def run(self) -> list[nodes.Node]:
        machine = self.read()["machine"]
        rows = {
            "processor": machine["processor"],
            "cores": f"{machine['cores']}, one of them used",
            "memory": f"{machine['gigabytes']:.1f} GB",
            "system": machine["system"],
            "date": machine["date"],
            **machine["versions"],
        }
        cells: list[list[Cell]] = [
            [nodes.Text(name), nodes.Text(value)] for name, value in rows.items()
        ]
        return [columns(LOOK, {"what": 1, "of this run": 3}, cells)]


class Summary(_OfTheRun):
    """Counts the comparisons, and names those that are lost or say little."""

    def run(self) -> list[nodes.Node]:
        return self.parsed(summary(self.read()["cases"]))


class Targets(_OfTheRun):
    """Lists the targets, and whether they were met."""

    def run(self) -> list[nodes.Node]:
        units = {"seconds": seconds, "megabytes": megabytes, "error": power}
        rows: list[list[Cell]] = []
        for case in self.read()["cases"]:
            for target in case["targets"]:
                write = units[target["what"]]
                met = target["reached"] <= target["asked"]
                cells = (
                    case["name"],
                    counted(target["size"], case["size_name"]),
                    write(target["reached"]),
                    write(target["asked"]),
                    "met" if met else "missed",
                )
                rows.append([nodes.Text(cell) for cell in cells])
        widths = {"case": 3, "at": 2, "reached": 1, "at most": 1, "target": 1}
        return [columns(LOOK, widths, rows)]


class Part(_OfTheRun):
    """Draws the cases of some modules and writes their tables."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True
    option_spec = {"name": directives.unchanged}  # noqa: RUF012  (docutils' interface)

    def run(self) -> list[nodes.Node]:
        modules = self.arguments[0].split()
        cases = [case for case in self.read()["cases"] if case["module"] in modules]
        if not cases:
            text = "The last run has none of these cases."
            return [nodes.paragraph(text=text)]
        name = self.options["name"]
        folder = Path(self.env.srcdir) / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        draw(cases, folder / name)
        image = nodes.image(uri=f"/{FOLDER.as_posix()}/{name}.*", alt=told(cases))
        (caption,) = self.parsed("\n".join(self.content))
        figure = nodes.figure("", image, align="center")
        figure += nodes.caption("", "", *caption.children)
        self.add_name(figure)
        self.set_source_info(figure)
        return [figure, growth_table(cases), comparison_table(cases)]


# --- numbers ------------------------------------------------------------------------


def number(value: float) -> str:
    """Write a whole number with narrow spaces between thousands."""
    return f"{value:,.0f}".replace(",", "\u202f")


def counted(size: int, name: str) -> str:
    """Write a size with what it counts, whose plural ends with an s."""
    return f"{number(size)} {name.removesuffix('s') if size == 1 else name}"


def digits(value: float, count: int = 2) -> str:
    """Write a number >= 0.01 with so many digits, and no power of ten."""
    places = max(0, count - 1 - int(np.floor(np.log10(value)))) if value > 0 else 0
    return f"{round(value, places):,.{places}f}".replace(",", "\u202f")


def seconds(value: float) -> str:
    """Write a time in the unit that suits it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size or unit == "µs":
            return f"{digits(value / size)}\u00a0{unit}"
    raise AssertionError


def megabytes(value: float | None) -> str:
    """Write memory in 10^6 bytes; less than a page more is not told from none."""
    if value is None:
        return "not measured"
    return f"{digits(value)}\u00a0MB" if value >= 0.1 else "<\u00a00.1\u00a0MB"


def power(value: float) -> str:
    """Write a number as 1.2 × 10⁻⁴."""
    if value == 0:
        return "0"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(RAISED)}"


def exponent(growth: dict[str, float]) -> str:
    """Write an exponent with the range of slopes from size to size."""
    values = (growth[name] for name in ("exponent", "lowest", "highest"))
    fitted, low, high = (f"{value:.2f}".replace("-", "−") for value in values)
    return f"{fitted} ({low} to {high})"


# --- texts and tables ---------------------------------------------------------------


def compared(cases: list[Entry]) -> Iterator[tuple[Entry, dict[str, Any]]]:
    """Go through the references and peers that were measured, with their cases."""
    for case in cases:
        for series in case["series"][1:]:
            if series["sizes"]:
                yield case, series


def reaches(series: dict[str, Any]) -> bool:
    """Tell whether the error is at most the one that the case asks for."""
    return bool(series["errors"][-1] <= series["asked"][-1])


def summary(cases: list[Entry]) -> str:
    """Say in Markdown how often fpbook is faster, and where it is not.

    Parameters
    ----------
    cases
        Those of the run.

    Returns
    -------
    str
        A paragraph and up to three lists: faster at the error asked for, short of
        that error, not measured.
    """
    pairs = list(compared(cases))
    equal = [(case, series) for case, series in pairs if reaches(series)]
    lost = [(case, series) for case, series in equal if series["ratio"] < 1]
    short = [(case, series) for case, series in pairs if not reaches(series)]
    absent = [
        (case, series)
        for case in cases
        for series in case["series"][1:]
        if not series["sizes"]
    ]
    text = (
        f"{len(cases)} cases of {len({case['module'] for case in cases})} modules, "
        f"{len(pairs)} comparisons. In {len(equal)} of them the other way reaches the "
        f"error asked for; in {len(equal) - len(lost)} of these fpbook is at least as "
        f"fast, in {len(lost)} it is slower.\n\n"
    )
    lists = {
        "Faster than fpbook, at the error asked for": [
            f"{case['name']}: {series['name']}, in {share(series['ratio'])} of the time"
            for case, series in lost
        ],
        "Short of the error asked for, so that the ratio says little": [
            f"{case['name']}: {series['name']}, {power(series['errors'][-1])} "
            f"instead of {power(series['asked'][-1])}"
            for case, series in short
        ],
        "Not measured": [
            f"{case['name']}: {series['name']}, {series['missing']}"
            for case, series in absent
        ],
    }
    for heading, lines in lists.items():
        if lines:
            items = "\n".join(f"- {line}" for line in lines)
            text += f"**{heading}**\n\n{items}\n\n"
    return text


def share(ratio: float) -> str:
    """Write a ratio below 1 in per cent, rounded away from 100."""
    return f"{min(99, round(100 * ratio))} %"


def growth_table(cases: list[Entry]) -> nodes.Node:
    """List what the kernels cost, how that grows, and the error reached."""
    rows: list[list[Cell]] = []
    for case in cases:
        kernel = case["series"][0]
        measured = nodes.Text(f": {case['measures']}")
        cells = (
            f"{number(kernel['sizes'][-1])} {case['size_name']}",
            seconds(kernel["seconds"][-1]),
            exponent(case["growth"]),
            megabytes(kernel["megabytes"]),
            f"{power(kernel['errors'][-1])} ({case['error_name']}; {case['exact']})",
        )
        first: list[nodes.Node] = [
            nodes.strong(text=case["name"]),
            measured,
            nodes.Text(" "),
            nodes.literal(text=f"{case['module']}: {case['kernel']}"),
        ]
        rows.append([first, *[nodes.Text(cell) for cell in cells]])
    widths = {
        "case": 5,
        "largest size": 2,
        "CPU time": 1,
        "exponent": 2,
        "memory added": 1,
        "error": 3,
    }
    return columns(LOOK, widths, rows)


def comparison_table(cases: list[Entry]) -> nodes.Node:
    """List the reference and the peers of each case."""
    rows: list[list[Cell]] = []
    for case in cases:
        for series in case["series"][1:]:
            name = (
                f"{series['name']} ({version})"
                if (version := series["version"])
                else series["name"]
            )
            cells = [case["name"], name]
            if series["sizes"]:
                mark = "" if reaches(series) else " (more than asked for)"
                cells += [
                    f"{number(series['sizes'][-1])} {case['size_name']}",
                    f"× {digits(series['ratio'])}",
                    power(series["errors"][-1]) + mark,
                    megabytes(series["megabytes"]),
                    seconds(series["first_seconds"]),
                ]
            else:
                cells += [series["missing"], "", "", "", ""]
            rows.append([nodes.Text(cell) for cell in cells])
    widths = {
        "case": 3,
        "other way": 4,
        "at": 2,
        "its CPU time": 1,
        "its error": 2,
        "its memory": 1,
        "its first call": 1,
    }
    return columns(LOOK, widths, rows)


# --- figures ------------------------------------------------------------------------


def told(cases: list[Entry]) -> str:
    """Say what a figure shows to somebody who cannot see it."""
    panels = "; ".join(
        f"{case['name']}: {seconds(case['series'][0]['seconds'][0])} at "
        f"{number(case['series'][0]['sizes'][0])} {case['size_name']}, "
        f"{seconds(case['series'][0]['seconds'][-1])} at "
        f"{number(case['series'][0]['sizes'][-1])}, "
        f"exponent {case['growth']['exponent']:.2f}".replace("-", "−")
        for case in cases
    )
    return (
        f"{len(cases)} panels of CPU time against size on logarithmic axes, fpbook as "
        f"discs with a fitted line, references as squares, peers as triangles: {panels}"
    )


def draw(cases: list[Entry], place: Path) -> None:
    """Draw CPU time against size, a panel for each case, as SVG, PNG and PDF.

    Parameters
    ----------
    cases
        What is drawn.
    place
        The file, without its ending.
    """
    style = Path(plain_powers.__code__.co_filename).with_name("house.mplstyle")
    down = -(-len(cases) // ACROSS)
    with plt.style.context(style):
        figure, panels = plt.subplots(
            down,
            ACROSS,
            figsize=(TEXT_WIDTH, PANEL_HEIGHT * down + 0.4),
            squeeze=False,
        )
        for axes, case in zip(panels.flat, cases, strict=False):
            _draw_panel(axes, case)
        for axes in panels.flat[len(cases) :]:
            axes.set_visible(False)
        for row in panels:
            row[0].set_ylabel("CPU time / s")
        lines = [
            Line2D([], [], color=colour, marker=marker, linestyle="none")
            for _, colour, marker in LOOKS
        ]
        names = [name for name, _, _ in LOOKS]
        figure.legend(lines, names, loc="outside upper center", ncols=len(LOOKS))
        for ending, known in (("svg", "Date"), ("png", None), ("pdf", "CreationDate")):
            metadata = {known: None} if known else None
            figure.savefig(place.with_suffix(f".{ending}"), metadata=metadata)
        plt.close(figure)


def _draw_panel(axes: Axes, case: Entry) -> None:
    for place, series in reversed(list(enumerate(case["series"]))):
        _, colour, marker = LOOKS[min(place, 2)]
        axes.plot(
            series["sizes"],
            series["seconds"],
            marker,
            color=colour,
            linestyle=":" if place else "none",
            linewidth=1,
        )
    growth = case["growth"]
    kernel = case["series"][0]
    used = [size for size in kernel["sizes"] if size >= growth["first"]]
    times = kernel["seconds"][-len(used) :]
    centre = np.exp(np.log(times).mean() - growth["exponent"] * np.log(used).mean())
    line = centre * np.array(used) ** growth["exponent"]
    axes.plot(used, line, color=LOOKS[0][1])
    fitted = f"{growth['exponent']:.2f}".replace("-", "−")
    axes.set(xscale="log", yscale="log", xlabel=case["size_name"])
    # The name of a panel stands above it; what is to be seen is in the caption.
    axes.set_title(f"{case['name']}: {fitted}", loc="left", fontsize=9)
    plain_powers(axes.xaxis)
    plain_powers(axes.yaxis)


def setup(app: Any) -> dict[str, Any]:
    app.add_directive("speed-machine", Machine)
    app.add_directive("speed-summary", Summary)
    app.add_directive("speed-targets", Targets)
    app.add_directive("speed-part", Part)
    return {"version": "1", "parallel_read_safe": True}
