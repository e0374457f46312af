"""What may complete the term that is being written in the search box."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from storage.search.language.completion import partial

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ramq.wiring import Services
    from storage.search.language.completion import Filled, Partial

FIELDS = {
    "tag": "a tag: tag:castle",
    "score": "a tag and its least score: score:castle>0.8",
    "archive": "images of an archive",
    "prefix": "keys starting with this: prefix:2024/",
    "after": "modified on that day or later: after:2024-01-31",
    "before": "modified before that day: before:2024-01-31",
    "larger": "files of that size or more: larger:2MB",
    "smaller": "files below that size: smaller:100kB",
    "missing": "whether the original is missing: missing:no",
    "job": "recorded by a job, by its number",
    "like": "like an image, by its number",
    "generation": "search another generation, by its number",
    "text": "words as they are: text:OR",
}


@dataclass(frozen=True, slots=True)
class Option:
    """One way to go on.

    Attributes:
        label: the tag, archive or field.
        hint: its other name, or what it means.
        count: images that have it; None where nothing is counted.
        filled: the query with it.
    """

    label: str
    hint: str | None
    count: int | None
    filled: Filled


def completions(services: Services, text: str, at: int, limit: int) -> list[Option]:
    """Return what may complete the term that ends at character ``at`` of ``text``, the likeliest first."""
    written = partial(text, at)
    if written is None:
        return []
    if written.field == "archive":
        return list(_archives(services, written))[:limit]
    if written.field not in {None, "tag", "score"}:
        return []
    named = [Option(f"{name}:", FIELDS[name], None, written.with_field(name)) for name in written.fields]
    return [*_tags(services, written, limit - len(named)), *named][:limit]


def _archives(services: Services, written: Partial) -> Iterator[Option]:
    typed = written.phrases[-1][1].casefold()
    for archive in services.archives():
        if typed in archive.uri.casefold():
            yield Option(archive.uri, None, archive.recorded, written.with_filter("archive", archive.uri))


def _tags(services: Services, written: Partial, limit: int) -> list[Option]:
    for start, typed in written.phrases:
        typed_folded = typed.casefold()
        options = []
        for facet in services.suggest_tags(typed, limit):
            is_chinese = facet.name_zh is not None and facet.name_zh.startswith(typed_folded)
            names = (facet.name_zh or "", facet.name) if is_chinese else (facet.name, facet.name_zh)
            options.append(Option(names[0], names[1], facet.count, written.with_tag(names[0], start)))
        if options:
            return options
    return []
