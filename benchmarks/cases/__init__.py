"""All cases; a module here has the name of the module of fpbook that it measures."""

from importlib import import_module
from pathlib import Path

from benchmarks.harness import Case

MODULES = sorted(
    path.stem for path in Path(__file__).parent.glob("*.py") if path.stem != "__init__"
)
CASES: tuple[Case, ...] = tuple(
    case
    for module in MODULES
    for case in import_module(f"benchmarks.cases.{module}").CASES
)
"""In the order of the modules."""
