"""The name of who runs this process."""

from __future__ import annotations

import getpass
import os


def user_of_system() -> str:
    """Return the user's name in the operating system, or ``uid-NUMBER`` where it has none, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return f"uid-{os.getuid()}"
