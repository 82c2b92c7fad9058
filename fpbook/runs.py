"""How large a chapter's computation is: what its page shows, or full scale.

Pages are computed in a minute on one core. Where more networks, larger ones or longer
runs would say more, a chapter gives both numbers, ::

    NETWORKS = runs.choose(100_000, full=1_000_000)
    walkers = langevin_ensemble(..., jobs=runs.jobs())

and ``python -m fpbook run <chapter> --full`` computes the second, on all cores or on a
cluster. Nothing else changes: the claims of the page are checked with the same
tolerances. A result depends on the seed and on the size, not on the number of jobs.
"""

import os
from typing import TypeVar

FULL_ENVIRONMENT = "FPBOOK_FULL"
JOBS_ENVIRONMENT = "FPBOOK_JOBS"

Size = TypeVar("Size")


def full_scale() -> bool:
    """Tell whether the full computation is asked for.

    Returns
    -------
    bool
        True if the environment variable ``FPBOOK_FULL`` is set to anything but the
        empty string or ``0``.
    """
    return os.environ.get(FULL_ENVIRONMENT, "0") not in ("", "0")


def choose(page: Size, full: Size) -> Size:
    """Choose a size: the page's, or the one of full scale.

    Parameters
    ----------
    page
        What the page takes, such as a number of networks or a list of widths.
    full
        What a run with ``--full`` takes instead.

    Returns
    -------
    Size
        One of the two.
    """
    return full if full_scale() else page


def jobs() -> int:
    """Give the number of jobs for the ensembles of a chapter.

    Returns
    -------
    int
        1 unless the environment variable ``FPBOOK_JOBS`` says otherwise; -1 for all
        cores, or for all workers of the cluster that ``joblib`` is set to.

    Raises
    ------
    ValueError
        If ``FPBOOK_JOBS`` is no integer other than 0.
    """
    given = os.environ.get(JOBS_ENVIRONMENT, "1")
    try:
        number = int(given)
    except ValueError:
        number = 0
    if number == 0:
        raise ValueError(
            f"{JOBS_ENVIRONMENT} must be an integer other than 0, got {given!r}"
        )
    return number
