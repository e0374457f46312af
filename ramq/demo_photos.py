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
    # 20 photographs of the ImageNet validation set; the last number of a name is the class.
    ("foolbox", "data/imagenet_*.jpg", frozenset[str]()),
    # Public domain or CC0, by the README beside them.
    (
        "skimage",
        "data/*.[jp][pn]g",
        _SKIMAGE_DRAWINGS,
    ),
    # CC BY, by the README beside them.
    ("sklearn", "datasets/images/*.jpg", frozenset[str]()),
)


def installed_photographs() -> list[Path]:
    """The photographs of every known package that is installed, in a stable order; empty when there is none."""
    found: list[Path] = []
    for package, pattern, drawings in _SOURCES:
        spec = find_spec(package)
        for folder in spec.submodule_search_locations or () if spec else ():
            found += sorted(path for path in Path(folder).glob(pattern) if path.stem not in drawings)
    return found


def copy_photographs(folder: Path) -> int:
    """Copies the photographs into ``folder``, one sub-folder per package; returns how many there are."""
    photographs = installed_photographs()
    for path in photographs:
        package = next(part for part in reversed(path.parts) if part in {source[0] for source in _SOURCES})
        target = folder / package / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return len(photographs)


def main() -> int:
    """Fills the folder named on the command line."""
    if len(sys.argv) != 2:
        sys.stderr.write("usage: python -m ramq.demo_photos FOLDER\n")
        return 2
    count = copy_photographs(Path(sys.argv[1]))
    if count == 0:
        sys.stderr.write("no photographs are installed: pip install --no-deps foolbox scikit-image\n")
        return 1
    sys.stdout.write(f"{count} photographs in {sys.argv[1]}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
