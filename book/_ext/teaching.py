"""What the pages for teachers say about the chapters, read from the chapters.

``{outcomes} book/part/chapter`` repeats what a chapter teaches, ``{problem-set}
book/part/chapter`` lists its exercises with their points, and ``{course-files}`` links
to the notebooks and slides that ``teach.py`` puts into the site.
"""

import re
from pathlib import Path
from typing import Any

import course
import slides
import yaml
from docutils import nodes
from ledger import Cell, columns
from sphinx.util.docutils import SphinxDirective

OUTCOMES = re.compile(r"^## What you will learn\n+(?P<list>.*?)(?=^## )", re.M | re.S)
WIDTHS = {"exercise": 6, "kind": 3, "level": 2, "for": 2, "points": 1}


class _OfChapter(SphinxDirective):
    """Reads the chapter that its argument names."""

    required_arguments = 1

    def read(self) -> str:
        name = f"{self.arguments[0]}.md"
        self.env.note_dependency(name)
        return (Path(self.env.srcdir) / name).read_text("utf-8")

    def parsed(self, text: str) -> list[nodes.Node]:
        return list(self.parse_text_to_nodes(text))


class Outcomes(_OfChapter):
    """Puts the list under "What you will learn" here."""

    def run(self) -> list[nodes.Node]:
        found = OUTCOMES.search(self.read())
        if found is None:
            raise self.error(f"{self.arguments[0]} does not say what it teaches")
        return self.parsed(f"**Learning outcomes**\n\n{found['list']}")


class ProblemSet(_OfChapter):
    """Puts a table of the exercises here, with the sum of their points."""

    def run(self) -> list[nodes.Node]:
        tasks = course.exercises(self.read())
        rows: list[list[Cell]] = []
        for task in tasks:
            (paragraph,) = self.parsed(f"{{ref}}`{task.label}`: {task.title}")
            told = (task.kind, task.level, task.place, str(task.points))
            rows.append([list(paragraph.children), *[nodes.Text(t) for t in told]])
        total = sum(task.points for task in tasks)
        empty = [nodes.Text("") for _ in range(3)]
        rows.append([nodes.strong(text="sum"), *empty, nodes.strong(text=str(total))])
        heading = nodes.paragraph("", "", nodes.strong(text="Problem set"))
        return [heading, columns("fpbook-contents", WIDTHS, rows)]


class course_files(nodes.General, nodes.Element):  # noqa: N801  (docutils names nodes so)
    """Place of the links to what a teacher takes along."""


class CourseFiles(SphinxDirective):
    """Puts the place into the page."""

    def run(self) -> list[nodes.Node]:
        return [course_files()]


def _fill(app: Any, doctree: nodes.document, docname: str) -> None:
    up = "../" * docname.count("/")
    contents = yaml.safe_load((Path(app.srcdir) / "_toc.yml").read_text("utf-8"))
    links = [
        (f"Slides of Part {part['caption']}", f"{slides.FOLDER}/{slides.name(part)}")
        for part in contents["parts"]
        if part.get("numbered")
    ]
    links += [
        (f"Notebooks for {who}", f"{course.FOLDER}/{course.archive(kind)}")
        for kind, who in course.SETS.items()
    ]
    for place in list(doctree.findall(course_files)):
        listed = nodes.bullet_list()
        for text, address in links:
            link = nodes.reference("", text, refuri=up + address, internal=True)
            listed += nodes.list_item("", nodes.paragraph("", "", link))
        place.replace_self(listed)


def setup(app: Any) -> dict[str, Any]:
    app.add_node(course_files)
    app.add_directive("outcomes", Outcomes)
    app.add_directive("problem-set", ProblemSet)
    app.add_directive("course-files", CourseFiles)
    app.connect("doctree-resolved", _fill)
    return {"version": "1", "env_version": 1, "parallel_read_safe": True}
