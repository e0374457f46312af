"""Real photographs from installed packages, for the demonstration: ``python -m ramq.demo_photos FOLDER``.

They stay where they are installed. ramq neither imports these packages nor needs them to run.
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

# Package, pattern below its folder, and matching files that do not show a scene.
_SOURCES = (
    # Public domain or CC0, according to the README next to them.
    ("skimage", "data/*.[jp][pn]g", _SKIMAGE_DRAWINGS),
    # CC BY, according to the README next to them.
    ("sklearn", "datasets/images/*.jpg", frozenset[str]()),
)


# Photographs that `make tools` fetches for the tests. They are freely licensed; see `tests/photographs.py`.
FETCHED = Path(sys.prefix) / "share" / "ramq" / "photographs"
_SCENES = ("explore_farm_animals", "explore_monuments", "explore_world_animals", "clickgame", "details")


def fetched_photographs() -> list[Path]:
    """Return the fetched photographs that show scenes, in a stable order. The list is empty if none were fetched."""
    return sorted(path for scene in _SCENES for path in (FETCHED / scene).rglob("*.webp"))


def installed_photographs() -> list[Path]:
    """Return the photographs of all known packages that are installed, in a stable order."""
    found: list[Path] = []
    for package, pattern, drawings in _SOURCES:
        spec = find_spec(package)
        for folder in spec.submodule_search_locations or () if spec else ():
            found += sorted(path for path in Path(folder).glob(pattern) if path.stem not in drawings)
    return found


def copy_photographs(folder: Path) -> int:
    """Copy the photographs into ``folder``, with one sub-folder for each source, and return their number.

    Modification times are kept, so that a second copy is the same version of the same archive.
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
    """Copy the photographs into the folder named on the command line."""
    if len(sys.argv) != 2:
        sys.stderr.write("usage: python -m ramq.demo_photos FOLDER\n")
        return 2
    count = copy_photographs(Path(sys.argv[1]))
    if count == 0:
        sys.stderr.write("no photographs are installed; run pip install scikit-image scikit-learn\n")
        return 1
    sys.stdout.write(f"{count} photographs in {sys.argv[1]}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
