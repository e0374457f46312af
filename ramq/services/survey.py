"""What an archive holds, by listing it or a part of it. Reads keys only, and writes nothing."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from storage.objects.base import marked
from storage.objects.ignoring import Ignoring
from storage.objects.pages import may_be_paged
from storage.objects.source import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storage.objects.base import ObjectInfo, ObjectStore, S3Options
    from storage.objects.ignoring import Selection
    from storage.objects.manifest import Manifest
    from storage.objects.source import Source


@dataclass(slots=True)
class Survey:
    """What was seen of an archive.

    Attributes:
        store: the archive.
        keys: that were listed, with those that are left out.
        images: the keys that a job would read.
        size_bytes: of these; 0 where the listing does not say sizes, as in some manifests.
        paged: how many of these may have pages, by their names: TIFF and PDF.
        pages: of the listing; each is a request to a bucket.
        is_complete: whether everything was listed.
        sample: images that were drawn at random from those that were listed.
    """

    store: ObjectStore
    keys: int = 0
    images: int = 0
    paged: int = 0
    size_bytes: int = 0
    pages: int = 0
    is_complete: bool = True
    sample: list[ObjectInfo] = field(default_factory=list)


def survey(
    place: Source,
    selection: Selection,
    s3: S3Options,
    *,
    manifest: Manifest | None,
    most_keys: int,
    sample: int,
) -> Survey:
    """List an archive or a manifest until its end, or until ``most_keys`` keys, and draw a sample of its images.

    Raises:
        StoreUnavailableError, CredentialsError: the store cannot be listed.
        UsageError: a manifest or a file ``.ramqignore`` is damaged.
    """
    # The same sample each time: two estimates of one archive agree.
    chance = random.Random(0)  # noqa: S311  (no secret)
    found = Survey(open_store(place, s3))
    ignoring = Ignoring(selection, place.kind, place.prefix, place.prefix)
    for page in _pages(found.store, place, ignoring, manifest):
        found.pages += 1
        for info in page:
            found.keys += 1
            if info.ignored or info.is_marker:
                continue
            found.images += 1
            found.size_bytes += info.size_bytes
            found.paged += may_be_paged(info.key)
            if len(found.sample) < sample:
                found.sample.append(info)
            elif (at := chance.randrange(found.images)) < sample:
                found.sample[at] = info
        if found.keys >= most_keys:
            found.is_complete = False
            break
    return found


def _pages(
    store: ObjectStore, place: Source, ignoring: Ignoring, manifest: Manifest | None
) -> Iterator[list[ObjectInfo]]:
    if manifest is None:
        yield from store.pages(place.prefix, None, ignoring)
    else:
        for _, page in manifest.pages(place, place.prefix, None):
            yield marked(page, ignoring)
