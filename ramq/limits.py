"""What the system allows this process."""

from __future__ import annotations

import resource

MOST_FILES = 20_000
"""As many open files are asked for as the system allows, but no more: macOS refuses some numbers above."""


def allow_open_files() -> None:
    """Raise the limit of open files as far as this process may, up to ``MOST_FILES``.

    Each segment of the index keeps several files open. Most systems begin with 256 or 1,024, for programs that do not
    expect more (``select``), and let the others raise it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
