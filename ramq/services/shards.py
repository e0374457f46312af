"""Pictures with their results as shards of WebDataset: tar files, written by the library ``webdataset``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from storage.errors import UsageError
from storage.results.masks import Mask

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from types import ModuleType
    from typing import IO

    from ramq.services.picture_bytes import Content
    from storage.results.region_views import RegionsView, RegionView
    from storage.search.views import Hit

PATTERN = "ramq-%06d.tar"
SHARD_IMAGES = 10_000
SHARD_BYTES = 1_000_000_000


def library() -> ModuleType:
    """Return the library. Raises ``UsageError`` if it is not installed."""
    try:
        import webdataset  # noqa: PLC0415  (an extra, and only this format needs it)
    except ImportError as error:
        raise UsageError(
            "the format webdataset needs the package webdataset: pip install 'ramq[export]', or pip install webdataset"
        ) from error
    return webdataset  # type: ignore[no-any-return]


def write_shards(
    pictured: Iterable[tuple[Hit, RegionsView | None, Content]],
    folder: Path,
    images: int = SHARD_IMAGES,
    size_bytes: int = SHARD_BYTES,
) -> int:
    """Write shards ``ramq-000000.tar`` and so on, with two files for each image: its picture and ``.json``.

    The same images give the same bytes.

    Args:
        pictured: hits, each with its regions and its picture.
        folder: an existing folder.
        images: in one shard, at most.
        size_bytes: a shard ends with the image that reaches it.

    Returns:
        The number of images that were written.
    """
    samples = (
        (f"{hit.image_id:012}", content.ending(hit.key), content.body, _sample(hit, view))
        for hit, view, content in pictured
    )
    return write_samples(samples, folder, images, size_bytes)


def write_samples(
    samples: Iterable[tuple[str, str, bytes, Mapping[str, Any]]],
    folder: Path,
    images: int = SHARD_IMAGES,
    size_bytes: int = SHARD_BYTES,
) -> int:
    """Write shards as ``write_shards``: of each sample its name, the ending of its picture, the picture, and the rest.

    Returns:
        The number of samples that were written.
    """
    files: list[IO[bytes]] = []

    def begin(name: str) -> IO[bytes]:
        files.append((folder / name).open("wb"))
        return files[-1]

    writer = library().ShardWriter(
        PATTERN,
        maxcount=images,
        maxsize=size_bytes,
        opener=begin,
        post=lambda _name: files.pop().close(),
        verbose=0,
        encoder=False,
        mtime=0,
        user="",
        group="",
    )
    with writer:
        for name, ending, body, about in samples:
            said = json.dumps(about, ensure_ascii=False).encode()
            writer.write({"__key__": name, ending: body, "json": said})
        return int(writer.total)


def _sample(hit: Hit, view: RegionsView | None) -> dict[str, Any]:
    """Return what is known of an image. ``regions`` is None if tags were not located in it."""
    return {
        "image_id": hit.image_id,
        "archive": hit.archive,
        "key": hit.key,
        "width": hit.width,
        "height": hit.height,
        "caption": hit.caption,
        "caption_contradicts": list(hit.caption_contradicts),
        "given_keywords": list(hit.keywords),
        "page": hit.page,
        "file_key": hit.file_key or hit.key,
        "tags": [{"name": tag.name, "score": tag.score, "source": tag.source} for tag in hit.tags],
        "regions": None if view is None else [_region(one) for one in view.regions],
    }


def _region(region: RegionView) -> dict[str, Any]:
    return {
        "tag": region.tag,
        "score": region.score,
        "source": "model" if region.correction_id is None else "person",
        "box": list(region.box),
        "mask": None if region.mask is None else Mask.from_bytes(region.mask).coco(),
        "mask_quality": region.mask_quality,
    }
