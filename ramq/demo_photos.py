"""Real photographs that installed packages ship, for the demonstration: ``python -m ramq.demo_photos FOLDER``.

They stay where they are installed; nothing of these packages is imported or needed to run ramq.
"""

from __future__ import annotations

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

_SKIMAGE_DRAWINGS = frozenset(
    {
        *("cell", "chessboard_GRAY", "chessboard_RGB", "color", "horse", "ihc", "logo"),
        *("microaneurysms", "page", "phantom", "retina", "text"),
    }
)

# Package, pattern below its folder, and what matches but shows no scene.
_SOURCES = (
    # Public domain or CC0, by the README beside them.
    ("skimage", "data/*.[jp][pn]g", _SKIMAGE_DRAWINGS),
    # CC BY, by the README beside them.
    ("sklearn", "datasets/images/*.jpg", frozenset[str]()),
)


# Photographs that `make tools` fetches for the tests, where it ran: freely licensed, see `tests/photographs.py`.
FETCHED = Path(sys.prefix) / "share" / "ramq" / "photographs"
_SCENES = ("explore_farm_animals", "explore_monuments", "explore_world_animals", "clickgame", "details")


def fetched_photographs() -> list[Path]:
    """Return those of the fetched photographs that show scenes, in a stable order; empty where none were fetched."""
    return sorted(path for scene in _SCENES for path in (FETCHED / scene).rglob("*.webp"))


def installed_photographs() -> list[Path]:
    """Return the photographs of every known package that is installed, in a stable order; empty when there is none."""
    found: list[Path] = []
    for package, pattern, drawings in _SOURCES:
        spec = find_spec(package)
        for folder in spec.submodule_search_locations or () if spec else ():
            found += sorted(path for path in Path(folder).glob(pattern) if path.stem not in drawings)
    return found


def copy_photographs(folder: Path) -> int:
    """Copy the photographs into ``folder``, one sub-folder for each source; return how many there are.

    Their times come along, so that a second copy is the same version of the same archive.
    """
    photographs = installed_photographs()
    for path in photographs:
        package = next(part for part in reversed(path.parts) if part in {source[0] for source in _SOURCES})
        target = folder / package / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    fetched = fetched_photographs()
    for path in fetched:
        target = folder / path.relative_to(FETCHED)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    return len(photographs) + len(fetched)


def main() -> int:
    """Fill the folder named on the command line."""
    if len(sys.argv) != 2:
        sys.stderr.write("usage: python -m ramq.demo_photos FOLDER\n")
        return 2
    count = copy_photographs(Path(sys.argv[1]))
    if count == 0:
        sys.stderr.write("no photographs are installed: pip install scikit-image scikit-learn\n")
        return 1
    sys.stdout.write(f"{count} photographs in {sys.argv[1]}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
