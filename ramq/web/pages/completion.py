"""Completions of the term at the cursor of the search box."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from storage.search.language.completion import Filled, partial

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ramq.wiring import Services
    from storage.search.language.completion import Partial

SIGNS = {">=": "at least", ">": "more than", "=": "exactly", "<=": "at most", "<": "less than"}

FIELDS = {
    "tag": "a tag: tag:castle",
    "score": "a tag and its minimum score: score:castle>0.8",
    "archive": "images of an archive",
    "prefix": "start of the key: prefix:2024/",
    "name": "a word in the name of the file: name:beach",
    "file": "all pages of one file, by its key: file:letters/1912.tif",
    "taken": "when it was taken: taken:2023 or taken:2023-01..2024-02",
    "camera": "the camera, as the file says",
    "lens": "the lens, as the file says",
    "near": "where it was taken: near:48.2,16.4,5km",
    "keyword": "a keyword, from a person or in the file: keyword:vienna",
    "rating": "stars in the file: rating:>=3",
    "after": "modified on this day or later: after:2024-01-31",
    "before": "modified before this day: before:2024-01-31",
    "larger": "files of this size or larger: larger:2MB",
    "smaller": "files below this size: smaller:100kB",
    "read": "words in the picture: read:harbour",
    "count": "number of regions of a tag: count:dog>=2",
    "area": "share of the picture that a tag covers: area:dog>0.2",
    "missing": "whether the original is missing: missing:no",
    "duplicate": "whether another image has the same bytes, or nearly the same picture: duplicate:yes, duplicate:near",
    "truncated": "whether the file is cut short: truncated:yes",
    "same": "with the same bytes as an image, by number: same:12",
    "nearly": "nearly the same picture as an image, by number: nearly:12",
    "job": "recorded by a job, by number: job:3",
    "like": "similar to an image, by number: like:12",
    "generation": "search another generation, by number: generation:2",
    "text": "literal words: text:OR",
}


@dataclass(frozen=True, slots=True)
class Option:
    """One completion.

    Attributes:
        label: the tag, archive or field.
        hint: its other name, also the synonym that was typed, or its meaning.
        count: the number of images with it, or None if images are not counted.
        filled: the completed query.
    """

    label: str
    hint: str | None
    count: int | None
    filled: Filled


def completions(services: Services, text: str, at: int, limit: int) -> list[Option]:
    """Return completions of the term that ends at character ``at`` of ``text``, most likely first."""
    written = partial(text, at)
    if written is None:
        return []
    if written.field == "archive":
        return list(_archives(services, written))[:limit]
    if written.field in {"camera", "lens"}:
        return list(_devices(services, written, limit))
    if written.field == "keyword":
        return list(_keywords(services, written, limit))
    if written.field not in {None, "tag", "score", "count", "area"}:
        return []
    named = [Option(f"{name}:", FIELDS[name], None, written.with_field(name)) for name in written.fields]
    return [*_tags(services, written, limit - len(named)), *named][:limit]


def tag_names(services: Services, typed: str, limit: int) -> list[Option]:
    """Return the names of tags that begin with what was typed into a field that takes one name."""
    return [
        Option(facet.name, facet.name_zh, facet.count, Filled(facet.name, len(facet.name)))
        for facet in services.search.suggest_tags(typed, limit)
    ]


def _archives(services: Services, written: Partial) -> Iterator[Option]:
    typed = written.phrases[-1][1].casefold()
    for archive in services.archives.list():
        if typed in archive.uri.casefold():
            yield Option(archive.uri, None, archive.recorded, written.with_filter("archive", archive.uri))


def _devices(services: Services, written: Partial, limit: int) -> Iterator[Option]:
    assert written.field is not None
    for label in services.metadata.devices(written.field, written.phrases[-1][1], limit):
        yield Option(label, None, None, written.with_filter(written.field, label))


def _keywords(services: Services, written: Partial, limit: int) -> Iterator[Option]:
    for each in services.search.suggest_keywords(written.phrases[-1][1], limit):
        yield Option(each.label, None, each.count, written.with_filter("keyword", each.label))


def _tags(services: Services, written: Partial, limit: int) -> list[Option]:
    for start, typed in written.phrases:
        typed_folded = typed.casefold()
        options = []
        for facet in services.search.suggest_tags(typed, limit):
            is_chinese = facet.name_zh is not None and facet.name_zh.startswith(typed_folded)
            names = (facet.name_zh or "", facet.name) if is_chinese else (facet.name, facet.name_zh)
            hint = names[1] if facet.by is None else f"also: {facet.by}"
            options.append(Option(names[0], hint, facet.count, written.with_tag(names[0], start)))
            if names[0].casefold() == typed_folded:
                options += [
                    Option(f"{names[0]}{sign}", SIGNS[sign], None, written.with_tag(names[0], start, sign))
                    for sign in written.signs[1:]
                ]
        if options:
            return options
    return []
