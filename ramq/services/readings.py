"""The text in images: what was read, as views and as files, and people's corrections of it."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ramq.services.author import LOCAL
from ramq.services.reading_files import FILE_FORMATS, Picture, file_name
from storage.database import unit_of_work
from storage.errors import NotFoundError, UsageError
from storage.remembered import read_only
from storage.results import generations, line_corrections, lookup, readings
from storage.texts import is_storable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from storage.results.reading_views import LineCorrectionView, Polygon, ReadingView
    from storage.results.views import ImageView
    from storage.standby import Databases


@dataclass(frozen=True, slots=True)
class TextFile:
    """The text of one image as a file."""

    name: str
    media_type: str
    content: str


class ReadingClient:
    """The text in images. Thread-safe; every method is one transaction.

    Args:
        databases: the database, and the standby that exports read.
    """

    def __init__(self, databases: Databases) -> None:
        self._databases, self._engine = databases, databases.engine

    def get(self, image_id: int, generation: int | None = None) -> ReadingView:
        """Return the text in one image, with people's corrections.

        Args:
            image_id: the image.
            generation: the generation of the stage ``text`` that read it. None: the one in use.

        Raises:
            NotFoundError: there is no such image or generation, or the image was not read.
        """
        with read_only(self._engine) as session:
            return _reading(session, image_id, generation)

    def find(self, image_id: int) -> ReadingView | None:
        """Return the text in one image, or None if it was not read."""
        with read_only(self._engine) as session:
            return readings.views(session, [image_id]).get(image_id)

    def views(self, image_ids: Sequence[int]) -> dict[int, ReadingView]:
        """Return the text in images by their ids, without images that were not read. Exports use it."""
        return self._databases.look(lambda session: readings.views(session, image_ids))

    def file(self, image: ImageView, format_: str, generation: int | None = None) -> TextFile:
        """Return the text in one image as a file.

        Args:
            image: the image.
            format_: one of ``FILE_FORMATS``.
            generation: as in ``get``.

        Raises:
            NotFoundError: there is no such generation, or the image was not read.
        """
        kind = FILE_FORMATS[format_]
        size = (image.width, image.height) if image.width and image.height else None
        picture = Picture(image.image_id, image.key, size)
        content = kind.write(picture, self.get(image.image_id, generation))
        return TextFile(file_name(picture, kind.ending).rpartition("/")[2], kind.media_type, content)

    def corrections(self, image_id: int) -> list[LineCorrectionView]:
        """Return the corrections of lines of one image, oldest first."""
        with read_only(self._engine) as session:
            return line_corrections.of_image(session, image_id)

    def correct(self, image_id: int, polygon: Polygon, text: str | None, said_by: str = LOCAL) -> int:
        """Correct the lines whose middle is in ``polygon``, or add a line there. The correction survives new readings.

        Args:
            image_id: the image. It must have been read.
            polygon: four corners (x, y) in 0..1, clockwise from the text's own top left.
            text: the right text, one line of at most 1,000 characters. None: there is no text.
            said_by: the author.

        Returns:
            The id of the correction.

        Raises:
            NotFoundError: there is no such image, or it was not read.
            UsageError: the polygon or the text is not valid.
        """
        if text is not None:
            text = _clean(text)
        with unit_of_work(self._engine) as session:
            _reading(session, image_id, None)
            return line_corrections.correct(session, image_id, polygon, text, said_by)

    def withdraw(self, image_id: int, correction_id: int) -> None:
        """Take a correction of an image back, so that the line is again as it was read.

        Raises:
            NotFoundError: the image has no such correction.
        """
        with unit_of_work(self._engine) as session:
            if correction_id not in {one.id for one in line_corrections.of_image(session, image_id)}:
                raise NotFoundError(f"image {image_id} has no correction {correction_id}; see `ramq line {image_id}`")
            line_corrections.withdraw(session, correction_id)


def _reading(session: Session, image_id: int, generation: int | None) -> ReadingView:
    lookup.locate(session, image_id)
    if generation is not None:
        generations.get(session, generation, readings.STAGE)
    found = readings.views(session, [image_id], generation).get(image_id)
    if found is None:
        by = "" if generation is None else f" by generation {generation}"
        raise NotFoundError(f"the text of image {image_id} was not read{by} yet; read its archive with `ramq read`")
    return found


def _clean(text: str) -> str:
    """Return a line of text without characters that nobody sees, which the reader leaves out too.

    Raises:
        UsageError: it has control characters, or nothing that one can see.
    """
    if not is_storable(text) or any(unicodedata.category(character) == "Cc" for character in text.strip()):
        raise UsageError("the text has control characters; give one line of text without them")
    seen = "".join(one for one in unicodedata.normalize("NFC", text) if unicodedata.category(one)[0] != "C")
    if not seen.strip():
        raise UsageError(
            "the text is empty, or has nothing that one can see; give the right words, or say that there is no text"
        )
    return seen.strip()
