"""What a file says, on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ramq.cli.output import out
from ramq.services.said_by_files import lines_of
from storage.texts import visible

if TYPE_CHECKING:
    from storage.results.metadata import MetadataView


def print_metadata(view: MetadataView) -> None:
    """Print what a file says, apart from what ramq says."""
    lines = lines_of(view)
    if not lines:
        return
    out().print("  in the file:", markup=False)
    for name, value in lines:
        out().print(f"    {name}: {visible(value)}", markup=False, soft_wrap=True)
