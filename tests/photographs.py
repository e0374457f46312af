"""At least 300 real photographs for the tests; ``python tests/photographs.py`` installs those that pip cannot.

It installs the browser of the page's tests and pgbouncer too, where it is root and finds none.

Two sources: what Python packages ship (see ``ramq.demo_photos``), and Debian's ``gcompris-qt-data`` (44 MB), whose
photographs of animals, monuments, tools and musicians have English names and, in its ``copyright`` file, a free licence
each. The package is unpacked into the virtual environment; nothing is installed into the system.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ramq.demo_photos import installed_photographs

if TYPE_CHECKING:
    from collections.abc import Iterator

DEBIAN_PACKAGE = "gcompris-qt-data"
UNPACKED = Path(sys.prefix) / "share" / "ramq" / "photographs"

# The package's resource files that hold photographs, and what the paths of those photographs contain.
_RESOURCES = {
    "categorization.rcc": ("",),
    "clickgame.rcc": ("resource/sea",),
    # Whole pictures; the others are details of them, or paintings.
    "details.rcc": tuple(
        f"{name}_background"
        for name in (
            *("Chenonceau", "EgeskovSlotSpejling", "EilanDonanCastle", "FanoeWindmill", "GizahPyramids"),
            *("Louvre_2007_02_24_c", "Nagoya", "NDP", "Neuschwanstein", "OperaSidney", "TajMahal", "TourEiffel"),
            "TowerBridgeLondon",
        )
    ),
    "erase.rcc": ("",),
    "explore_farm_animals.rcc": ("",),
    "explore_monuments.rcc": ("",),
    "explore_world_animals.rcc": ("",),
    "explore_world_music.rcc": ("",),
    "solar_system.rcc": ("",),
}
# Debian's packages, each by the names under which it may be there already.
_PROGRAMS = (("chromium", "chromium-browser", "google-chrome"), ("pgbouncer",))

_IS_FOLDER = 2
_IS_COMPRESSED = 1 | 4


def photographs(min_count: int = 1) -> list[Path]:
    """Every photograph there is, in a stable order; skips the test (with CI=true: fails it) when there are too few."""
    from tests.services.missing import missing  # noqa: PLC0415 - run as a script, this file needs no pytest

    found = [*sorted(UNPACKED.rglob("*.webp")), *installed_photographs()]
    if len(found) < min_count:
        message = f"{len(found)} photographs, {min_count} needed: run `python tests/photographs.py`"
        missing(message)
    return found


def install() -> None:
    """Fetches the Debian package and unpacks its photographs; does nothing when they are there."""
    if UNPACKED.is_dir():
        return
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        sys.exit("the photographs come in a Debian package: this needs apt-get and dpkg-deb")
    with tempfile.TemporaryDirectory(dir=Path(sys.prefix)) as folder:
        work = Path(folder)
        work.chmod(0o755)  # apt fetches as a user of its own
        if os.geteuid() == 0:
            _run(["apt-get", "update", "-q"], work)
        _run(["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", DEBIAN_PACKAGE], work)
        (package,) = work.glob("*.deb")
        _run(["dpkg-deb", "-x", str(package), "package"], work)
        for path in (work / "package").rglob("*.rcc"):
            if path.name in _RESOURCES:
                _unpack(path, work / "pictures")
        UNPACKED.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(work / "pictures", UNPACKED)


def _unpack(resource: Path, target: Path) -> None:
    for name, content in _pictures(resource.read_bytes()):
        if any(part in name for part in _RESOURCES[resource.name]):
            # .../activities/erase/resource/pika.webp -> erase/pika.webp
            path = target / name.partition("/activities/")[2].replace("/resource/", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def _pictures(resource: bytes) -> Iterator[tuple[str, bytes]]:
    """The WebP pictures in a compiled Qt resource file, by their path.

    The layout (big endian): a header with the offsets of tree, data and names; a tree of fixed-size nodes, each a name
    and either the range of its children or the place of its bytes; names as length, hash and UTF-16.
    """
    magic, version, tree, data, names = struct.unpack_from(">4s4I", resource)
    assert magic == b"qres", "not a compiled Qt resource"
    node_bytes = 22 if version >= 2 else 14  # since version 2 with the time of the last change

    def walk(node: int, path: str) -> Iterator[tuple[str, bytes]]:
        at = tree + node * node_bytes
        name_at, flags = struct.unpack_from(">IH", resource, at)
        if node != 0:
            (length,) = struct.unpack_from(">H", resource, names + name_at)
            path += "/" + resource[names + name_at + 6 :][: 2 * length].decode("utf-16-be")
        if flags & _IS_FOLDER:
            count, first = struct.unpack_from(">II", resource, at + 6)
            for child in range(first, first + count):
                yield from walk(child, path)
        elif path.endswith(".webp") and not flags & _IS_COMPRESSED:
            (offset,) = struct.unpack_from(">I", resource, at + 10)
            (size,) = struct.unpack_from(">I", resource, data + offset)
            yield path, resource[data + offset + 4 :][:size]

    yield from walk(0, "")


def install_programs() -> None:
    """Install what the tests drive and pip does not have, where that is possible; say what is missing where not."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    wanted = [
        programs[0] for programs in _PROGRAMS if not any(shutil.which(program, path=path) for program in programs)
    ]
    if not wanted:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        names = " ".join(wanted)
        sys.stderr.write(f"no {names} here, so the tests that need it will be skipped: apt-get install {names}\n")
        return
    _run(["apt-get", "update", "-q"], Path("/"))
    _run(["apt-get", "install", "-q", "-y", "--no-install-recommends", *wanted], Path("/"))


def _run(command: list[str], cwd: Path) -> None:
    subprocess.run(command, cwd=cwd, check=True, stdout=sys.stderr)


if __name__ == "__main__":
    install()
    install_programs()
    sys.stdout.write(f"{len(list(UNPACKED.rglob('*.webp')))} photographs in {UNPACKED}\n")
