"""Checkpoints and their data files: list, fetch and verify them. Needs no torch.

There is one folder per model: ``<models_dir>/<model>/<file>``.
"""

from ram_core.checkpoints.download import Listener, Patience, UnreachableError
from ram_core.checkpoints.published import CatalogueEntry, RemoteFile, catalogue, entry
from ram_core.checkpoints.store import FileState, FileStatus, find, installed, path, pull, status, verify

__all__ = [
    "CatalogueEntry",
    "FileState",
    "FileStatus",
    "Listener",
    "Patience",
    "RemoteFile",
    "UnreachableError",
    "catalogue",
    "entry",
    "find",
    "installed",
    "path",
    "pull",
    "status",
    "verify",
]
