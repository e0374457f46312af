"""Recorded images as data of a training: their captions and tags as people corrected them, and their pictures."""

from __future__ import annotations

import time
from array import array
from typing import TYPE_CHECKING

from ram_core.errors import ImageError, TrainingError
from ramq.services.dataset_pictures import Content, pictures
from storage.batches import batched
from storage.database import unit_of_work
from storage.datasets import sources, versions
from storage.errors import FatalError, NotFoundError, PermanentError, RamqError, TransientError
from storage.results import corrections, tags
from storage.results.views import COMPOSED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from sqlalchemy import Engine

    from ram_core.recognition import Preprocessing
    from ram_core.training.data import DataSet, Sample
    from ram_core.training.data.describing import Describer
    from ram_core.vocabulary import TagVocabulary
    from ramq.services.dataset_pictures import Picture
    from ramq.services.images import ImageClient
    from ramq.services.search import SearchClient
    from storage.results.corrections import Said
    from storage.search.views import Hit, SearchQuery

KIND = "archive"
DATASET = "data set"
REMOVED = "removed"
"""Why a person dropped a tag."""
_BATCH = 500
_TRIES = 5
"""Of reading a picture while the store does not answer: half a minute in all."""


class TrainingDataClient:
    """Data of a training from archives. Thread-safe.

    Args:
        engine: the database.
        search: finds the images.
        images: reads the pictures.
    """

    def __init__(self, engine: Engine, search: SearchClient, images: ImageClient) -> None:
        self._engine = engine
        self._search = search
        self._images = images

    def dataset(
        self, query: SearchQuery, vocabulary: TagVocabulary, *, parse: bool = True, name: str | None = None
    ) -> DataSet:
        """Return the images that a query finds, in its order, with what is known of them now.

        Their tags are those that the query assigns, at its threshold or at their own, as people corrected them, and
        those that their captions name. Names are looked up in ``vocabulary``; tags that it does not have are left out.
        Captions that are composed from tags are left out, and so are those that name a tag that a person removed.
        Pictures are read as they were listed.

        Args:
            query: which images.
            vocabulary: the tags of the training.
            parse: whether to find the tags that captions name.
            name: of the data, for people.

        Raises:
            TrainingError: nothing is known of any image.
        """
        from ram_core.training.data.dataset import Source, gathered, has_content  # noqa: PLC0415  (torch)
        from ram_core.training.data.describing import Describer  # noqa: PLC0415

        describer = Describer(vocabulary, parse=parse)
        image_ids = array("Q")

        def samples() -> Iterator[Sample]:
            for hit, said in self._corrected(query):
                sample = _sample(hit, said, describer)
                if has_content(sample):
                    image_ids.append(hit.image_id)
                yield sample

        def read(number: int, _name: str) -> bytes:
            return self._read(image_ids[number])

        return gathered([Source(name or query.archive or "archives", KIND, samples(), read)], len(vocabulary))

    def of_dataset(
        self, named: str, vocabulary: TagVocabulary, *, is_validation: bool | None, parse: bool = True
    ) -> DataSet:
        """Return the pictures of a split of a data set, with their captions and the tags that they keep.

        Names are looked up in ``vocabulary``; tags that it does not have are left out. Captions that name a tag that a
        person removed are left out. Captions do not bring back tags that were dropped. Pictures are read from their
        archives.

        Args:
            named: ``name`` or ``name@number``.
            vocabulary: the tags of the training.
            is_validation: which split; None: both.
            parse: whether to find the tags that captions name.

        Raises:
            NotFoundError: there is no such version.
            TrainingError: it has nothing to learn from.
        """
        from ram_core.training.data.dataset import Source, gathered, has_content  # noqa: PLC0415  (torch)
        from ram_core.training.data.describing import Describer  # noqa: PLC0415

        describer = Describer(vocabulary, parse=parse)
        with unit_of_work(self._engine) as session:
            version = versions.find(session, named)
            names = tags.load(session, version.vocabulary_id)
            content = Content(version, names, 0, len(sources.places_of(session, version.id)) == 1)
        same = names.names == tuple(vocabulary.names)
        theirs = [[own] if same else vocabulary.resolve(name) for own, name in enumerate(names.names)]
        image_ids = array("Q")

        def samples() -> Iterator[Sample]:
            for picture in pictures(self._engine, content, is_validation=is_validation):
                sample = _sample_of(picture, theirs, describer)
                if has_content(sample):
                    image_ids.append(picture.image_id)
                yield sample

        split = {None: "", True: ", validation", False: ", training"}[is_validation]
        name = f"{version.name}@{version.number}{split}"
        read = Source(name, DATASET, samples(), lambda number, _name: self._read(image_ids[number]))
        made = gathered([read], len(vocabulary))
        made.about = {"dataset": version.name, "version": version.number, "dataset_sha256": version.sha256 or ""}
        return made

    def _corrected(self, query: SearchQuery) -> Iterator[tuple[Hit, Sequence[Said]]]:
        hits = self._search.export(query)[1]
        for batch in batched(hits, _BATCH):
            with unit_of_work(self._engine) as session:
                said = corrections.of_images(session, [hit.image_id for hit in batch])
            yield from ((hit, said.get(hit.image_id, ())) for hit in batch)

    def _read(self, image_id: int) -> bytes:
        from workers.pipeline.retry import backoff_seconds  # noqa: PLC0415

        for attempt in range(_TRIES):
            try:
                return self._images.picture(image_id)
            except TransientError as error:
                if attempt == _TRIES - 1:
                    raise TrainingError(f"pictures cannot be read at present: {error}; resume later") from error
                time.sleep(backoff_seconds(attempt))
            except (PermanentError, NotFoundError) as error:
                raise ImageError(str(error)) from error
            except RamqError as error:
                raise TrainingError(str(error)) from error
        raise AssertionError  # the last try returned or raised


def _sample(hit: Hit, said: Sequence[Said], describer: Describer) -> Sample:
    vocabulary = describer.vocabulary
    removed = {tag_id for one in said if not one.is_present for tag_id in vocabulary.resolve(one.spelling)}
    names = [tag.name for tag in hit.tags] + [one.spelling for one in said if one.is_present]
    tags = {tag_id for name in names for tag_id in vocabulary.resolve(name)} - removed
    caption = hit.caption if hit.caption and hit.captioner != COMPOSED else ""
    if removed.intersection(describer.caption_tags(caption)):
        caption = ""
    return describer.sample(hit.key, [caption], tags)


def _sample_of(picture: Picture, theirs: Sequence[Sequence[int]], describer: Describer) -> Sample:
    from ram_core.training.data.dataset import Sample  # noqa: PLC0415  (torch)

    kept = {tag_id for label in picture.kept for tag_id in theirs[label.tag_id]}
    dropped = {tag_id for label in picture.dropped for tag_id in theirs[label.tag_id]} - kept
    removed = {tag_id for label in picture.dropped if label.reason == REMOVED for tag_id in theirs[label.tag_id]} - kept
    captions, by_caption = [], []
    for caption in picture.captions:
        named = describer.caption_tags(caption)
        if not removed.intersection(named):
            captions.append(caption)
            by_caption.append([tag_id for tag_id in named if tag_id not in dropped])
    return Sample(picture.path, captions, by_caption, sorted(kept.union(*by_caption)))


class DecodeInProcesses:
    """Decodes for a training in child processes, as workers do: a picture that crashes its decoder is a bad image.

    Thread-safe. Give ``ImageBatches`` as many threads.

    Args:
        count: maximum number of processes. They start when they are needed.
        max_pixels: pictures with more pixels are bad images.
    """

    def __init__(self, count: int, max_pixels: int) -> None:
        from workers.pipeline.decoders import Decoders  # noqa: PLC0415  (Pillow; not every command needs it)

        self._decoders = Decoders(count, max_pixels)

    def __call__(self, body: bytes, preparations: Sequence[Preprocessing], /) -> list[NDArray[np.uint8]]:
        """Return the pixels that each preparation makes.

        Raises:
            ImageError: the picture is bad.
            TrainingError: processes cannot be started.
        """
        try:
            return [each.pixels for each in self._decoders.decode_for_all(body, preparations)]
        except PermanentError as error:
            raise ImageError(str(error)) from error
        except FatalError as error:
            raise TrainingError(str(error)) from error

    def close(self) -> None:
        """End the processes, when no thread decodes any more."""
        self._decoders.close()
