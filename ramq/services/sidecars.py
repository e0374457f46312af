"""XMP sidecars: what is known of images, in small files beside them that other programs read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ram_core.hierarchy.wordnet import paths
from ram_core.xmp_packet import PacketError, Words, written
from storage.errors import PermanentError, UsageError
from storage.objects.folder_writes import rewrite
from storage.objects.source import parse_source
from storage.results.metadata import LEVELS
from storage.results.views import COMPOSED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from storage.search.views import Hit

Naming = Literal["full", "lightroom"]

_ENDING = ".xmp"
# Lightroom reads sidecars of camera raw alone, and expects them without the ending of the raw file.
_RAW = frozenset(
    {
        "3fr", "arw", "cr2", "cr3", "crw", "dcr", "erf", "iiq", "kdc", "mef", "mos", "mrw", "nef", "nrw", "orf", "pef",
        "raf", "raw", "rw2", "sr2", "srf", "srw", "x3f",
    }
)  # fmt: skip


@dataclass(slots=True)
class Written:
    """How many sidecars were written, had everything already, and could not be written."""

    written: int = 0
    unchanged: int = 0
    left_out: int = 0


def write_sidecars(
    hits: Iterable[Hit],
    folder: Path | None,
    failed: Callable[[Hit, str], None],
    *,
    naming: Naming = "full",
    with_captions: bool = True,
) -> Written:
    """Write a sidecar for each hit, or bring the one that is there up to date. Originals are not touched.

    Args:
        hits: the images.
        folder: where the sidecars go, by their keys. None: beside the originals, of archives that are folders.
        failed: is told of each image whose sidecar could not be written.
        naming: ``full``: ``IMG_1.NEF.xmp``, which digiKam and darktable read. ``lightroom``: ``IMG_1.xmp`` for camera
            raw, ``IMG_1.JPG.xmp`` for other images.
        with_captions: also write captions of models, where nobody has written a description.
    """
    found, place = Written(), _Place(folder)
    for hit in hits:
        try:
            root, key = place.of(hit), _name(hit.key, naming)
            is_new = rewrite(root, key, _changing(hit, with_captions), with_folders=folder is not None)
        except (PermanentError, UsageError, PacketError) as error:
            found.left_out += 1
            failed(hit, str(error))
            continue
        found.written += is_new
        found.unchanged += not is_new
    return found


class _Place:
    """Where the sidecars go. Keys of several archives may be equal, so a folder takes those of one."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._archive: str | None = None

    def of(self, hit: Hit) -> Path:
        if self._folder is None:
            if hit.missing:
                raise UsageError("its original is missing")
            return _root(hit.archive)
        self._archive = self._archive or hit.archive
        if hit.archive != self._archive:
            raise UsageError(
                f"it is not of {self._archive}: write the sidecars of each archive into a folder of its own"
            )
        return self._folder


def _root(archive: str) -> Path:
    source = parse_source(archive)
    if source.scheme != "file":
        raise UsageError("its archive is a bucket, and sidecars are written into folders only: use --out")
    return Path(source.root)


def _name(key: str, naming: Naming) -> str:
    if key.lower().endswith(_ENDING):
        raise UsageError("it is a sidecar itself")
    folder, slash, name = key.rpartition("/")
    stem, dot, ending = name.rpartition(".")
    if naming == "lightroom" and dot and ending.lower() in _RAW:
        name = stem
    return f"{folder}{slash}{name}{_ENDING}"


def _given(keywords: Iterable[str]) -> tuple[list[str], list[tuple[str, ...]]]:
    """Return keywords of people as plain ones, and those with levels also as paths. Each level is a plain keyword."""
    found: list[str] = []
    hierarchies = []
    for word in keywords:
        levels = tuple(level for level in (each.strip() for each in word.split(LEVELS)) if level)
        found += levels
        if len(levels) > 1:
            hierarchies.append(levels)
    return found, hierarchies


def _changing(hit: Hit, with_captions: bool) -> Callable[[bytes | None], bytes | None]:  # noqa: FBT001
    names = [tag.name for tag in hit.tags]
    is_told = with_captions and hit.captioner not in {COMPOSED, None} and not hit.caption_contradicts
    given, hierarchies = _given(hit.keywords)
    every = tuple(dict.fromkeys((*names, *given)))
    words = Words(every, (*paths(names), *hierarchies), hit.caption if is_told else None)

    def change(packet: bytes | None) -> bytes | None:
        if packet is None and not every and not words.description:
            return None
        return written(packet, words)

    return change
