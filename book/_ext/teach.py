"""Write what a teacher takes along: what ``make course`` runs, and ``make book`` last.

Student and instructor notebooks go to ``_build/course``; if the site has been built,
their archives and the slides go into it, too.
"""

import shutil
import sys

import build
import course
import slides


def main() -> int:
    """Write the sets of notebooks, and complete the site with them and the slides."""
    made = list(course.write(build.ROOT, build.ROOT / "_build" / course.FOLDER))
    site = build.ROOT / "_build" / "html"
    if (site / "index.html").exists():
        (site / course.FOLDER).mkdir(exist_ok=True)
        for archive in made:
            shutil.copy2(archive, site / course.FOLDER)
        made += slides.write(build.ROOT, site / slides.FOLDER)
    else:
        print("no slides: they are made from the outputs of make book")
    for file in made:
        print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
