"""Write what a teacher takes along: what ``make course`` runs, and ``make book`` last.

Student and instructor notebooks go to ``_build/course``; if the site has been built,
their archives and the slides go into it, too. Another folder than ``_build`` can be
named: ``make sphinx`` does.
"""

import shutil
import sys
from pathlib import Path

import build
import course
import slides


def complete(folder: Path) -> None:
    """Write the sets of notebooks, and complete the site with them and the slides.

    Parameters
    ----------
    folder
        Folder of the build.
    """
    made = list(course.write(build.ROOT, folder / course.FOLDER))
    site = folder / "html"
    if (site / "index.html").exists():
        (site / course.FOLDER).mkdir(exist_ok=True)
        for archive in made:
            shutil.copy2(archive, site / course.FOLDER)
        made += slides.write(build.ROOT, folder)
    else:
        print("no slides: they are made from the outputs of make book")
    for file in made:
        print(file)


if __name__ == "__main__":
    complete(build.ROOT / sys.argv[1] if len(sys.argv) > 1 else build.BUILD)
