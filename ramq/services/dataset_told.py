"""What files say of pictures, checked and made into pictures and labels of a version."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ram_core.labels.tables import whole
from storage.datasets import items, labels
from storage.datasets.items import Item
from storage.datasets.labels import Label
from storage.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from storage.results.tags import Names


@dataclass(frozen=True, slots=True)
class ToldTag:
    """A tag of a picture by its name, or its id in the vocabulary; see ``storage.datasets.labels.Label``.

    ``tag_id`` is its id where the file has both: it counts if the vocabulary has this name there, since several tags
    may share a name.
    """

    name: str | int
    origins: Sequence[str] = ("given",)
    reason: str | None = None
    tag_id: int | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """What a file says of a picture.

    Attributes:
        name: a URI, a key or a path.
        captions: its captions.
        origins: where each is from.
        tags: its tags.
        is_complete: whether ``tags`` include those that the captions name.
        is_validation: its split; None: the file does not say.
    """

    name: str
    captions: Sequence[str] = ()
    origins: Sequence[str] = ()
    tags: Sequence[ToldTag] = ()
    is_complete: bool = False
    is_validation: bool | None = None


def checked(told: Told, where: str) -> Told:
    """Return what a row says as data sets store it. Captions of unknown origins count as given.

    Raises:
        UsageError: a tag or a reason is no text, or no reason that there is; it begins with ``where``.
    """
    return replace(
        told,
        name=_storable(told.name),
        captions=[_storable(caption) for caption in told.captions],
        origins=[origin if origin in items.ORIGINS else "given" for origin in told.origins],
        tags=[_checked_tag(tag, where) for tag in told.tags],
    )


def _checked_tag(tag: ToldTag, where: str) -> ToldTag:
    if not isinstance(tag.name, str | int) or isinstance(tag.name, bool):
        raise UsageError(f"{where}: {_shown(tag.name)} is no tag; give its name as text, or its id")
    if tag.reason is not None and tag.reason not in labels.REASONS:
        raise UsageError(
            f"{where}: {_shown(tag.reason)} is no reason to drop a tag; give one of {', '.join(labels.REASONS)}"
        )
    return replace(tag, name=_storable(tag.name)) if isinstance(tag.name, str) else tag


def _storable(text: str) -> str:
    """Return a text as databases and terminals take it. A name that is changed by this is no picture's."""
    return whole(text).replace("\0", "\ufffd")


def _shown(value: object) -> str:
    return ascii(value)[:80]


def item(image_id: int, version: str, rows: Sequence[Told]) -> Item:
    """Return a picture with the captions of all its rows. Its split is that of the first, as over several blocks."""
    captions: dict[str, str] = {}
    for told in rows:
        for caption, origin in zip(told.captions, told.origins, strict=True):
            captions.setdefault(caption, origin)
    return Item(
        image_id,
        version,
        is_validation=bool(rows[0].is_validation),
        captions=list(captions),
        origins=list(captions.values()),
    )


def labels_of(
    image_id: int,
    rows: Iterable[Told],
    names: Names,
    parse: Callable[[str], list[int]],
    unknown: Callable[[str], None],
) -> list[Label]:
    """Return the labels of a picture, which may have several rows: merged as ``labels.merge`` does.

    Args:
        image_id: the picture.
        rows: what the rows say of it.
        names: the vocabulary of the data set.
        parse: finds the ids of the tags that a caption names, where the file does not say.
        unknown: called with each tag that the vocabulary lacks.
    """
    found: dict[int, Label] = {}
    for told in rows:
        for label in _of_row(image_id, told, names, parse, unknown):
            known = found.get(label.tag_id)
            found[label.tag_id] = (
                label if known is None else replace(known, origins=_in_order([*known.origins, *label.origins]))
            )
    return list(found.values())


def _of_row(
    image_id: int, told: Told, names: Names, parse: Callable[[str], list[int]], unknown: Callable[[str], None]
) -> Iterator[Label]:
    found: dict[int, Label] = {}
    if not told.is_complete:
        for tag_id in {tag_id for caption in told.captions for tag_id in parse(caption)}:
            found[tag_id] = Label(image_id, tag_id, ["parsed"])
    for tag in told.tags:
        ids = _meant(tag, names)
        if not ids:
            unknown(str(tag.name))
        for tag_id in ids:
            known = found.get(tag_id)
            origins = [*tag.origins, *(known.origins if known else ())]
            found[tag_id] = Label(image_id, tag_id, _in_order(origins), tag.reason)
    yield from found.values()


def _meant(tag: ToldTag, names: Names) -> tuple[int, ...]:
    """Return the ids of the tags that a file means: by its id if that fits its name, else by its name."""
    if isinstance(tag.name, int):
        return (tag.name,) * (0 <= tag.name < len(names.names))
    # A name that cannot stand in a cell was written as its id.
    if (
        (tag_id := tag.tag_id) is not None
        and 0 <= tag_id < len(names.names)
        and tag.name in {names.names[tag_id], str(tag_id)}
    ):
        return (tag_id,)
    return names.ids(tag.name)


def _in_order(origins: Iterable[str]) -> list[str]:
    """Return origins that are known, each once. Others count as given."""
    known = {origin if origin in labels.ORIGINS else "given" for origin in origins}
    return [origin for origin in labels.ORIGINS if origin in known]
