"""Searching by regions: what ``count:`` and ``area:`` find, alone and with other conditions, and when they fail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest

from storage.database import unit_of_work
from storage.results import policies, region_search, regions, serving
from storage.results.masks import Mask
from storage.results.records import Provenance
from storage.results.region_views import FoundRegion, RegionsRow
from storage.search import query as queries
from storage.search.language import parse
from storage.search.notes import noting
from storage.search.views import SearchQuery, asking
from tests.archive_model import ArchiveModel
from tests.reading_archive import ReadingArchive, add_text_generation
from tests.reading_archive import row as text_row
from tests.region_archive import RegionArchive, add_generation, painted, place, row
from tests.vector_archive import as_text, unit_vectors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from storage.index.builder import IndexBuilder
    from storage.results.region_views import RegionsView
    from storage.search.search import Search
    from storage.search.views import HitPage

pytestmark = pytest.mark.services


@dataclass
class Pictures:
    """Recognised images; in the first ones, tags are located."""

    model: ArchiveModel
    regions: RegionArchive
    search: Search

    def write(self, *tags: str) -> list[int]:
        """Write regions of tags (joined by /) into the first images. Return their ids."""
        ids = self.regions.images[: len(tags)]
        self.regions.write(
            *(row(image_id, *filter(None, each.split("/"))) for image_id, each in zip(ids, tags, strict=True))
        )
        return ids

    def page(self, asked: str, **options: int) -> HitPage:
        with unit_of_work(self.model.engine) as session:
            query = asking(SearchQuery(**{"limit": 500, **options}), asked)  # type: ignore[arg-type]
            vector = unit_vectors(1, np.random.default_rng(1))[0] if query.text else None
            return self.search.page(session, query, as_text(vector))

    def found(self, asked: str) -> set[int]:
        page = self.page(asked)
        assert page.total == len(page.items)
        return {hit.image_id for hit in page.items}


@pytest.fixture
def pictures(engine: Engine, search: Search, builder: IndexBuilder) -> Pictures:
    model = ArchiveModel(engine, images_of_each=8)
    model.record(0, list(model.facts))
    builder.publish_new(model.generations[0], force=True)
    return Pictures(model, RegionArchive(engine, add_generation(engine), sorted(model.facts, reverse=True)), search)


def test_regions_are_counted_by_every_sign(pictures: Pictures) -> None:
    three, two, one, none, *_ = pictures.write("dog/Dog/dog", "dog/cat/dog", "cat/dog", "")
    every = pictures.found("")
    for asked, expected in {
        "count:dog>=2": {three, two},
        "count:DOG>2": {three},
        "count:dog=2": {two},
        "count:dog<=2": {two, one, none},
        "count:dog<2": {one, none},
        "count:dog=0": {none},
        "count:dog<1": {none},
        "count:dog>=0": {three, two, one, none},
        "count:dog<0": set(),
        "count:dog>=999999999": set(),
        "count:dog<=999999999": {three, two, one, none},
        "count:unicorn>=1": set(),
        "count:unicorn=0": {three, two, one, none},
        "-count:dog>=1": every - {three, two, one},
        "count:dog>=1 count:cat>=1": {two, one},
        "count:dog>2 OR (count:dog<2 AND count:cat=1)": {three, one},
    }.items():
        assert pictures.found(asked) == expected, asked


def test_a_share_of_the_picture_is_what_all_regions_of_a_tag_cover(pictures: Pictures) -> None:
    large, small, masked, *_ = pictures.regions.images
    half = (0.0, 0.0, 0.5, 1.0)
    pictures.regions.write(
        RegionsRow(large, "v1", [FoundRegion("dog", 0.9, half), FoundRegion("dog", 0.9, half)], is_cut=False),
        RegionsRow(small, "v1", [FoundRegion("dog", 0.9, (0.2, 0.2, 0.4, 0.3))], is_cut=False),
        RegionsRow(masked, "v1", [FoundRegion("dog", 0.9, half, painted((0, 0, 0.5, 0.5)), 0.9)], is_cut=False),
    )
    for asked, expected in {
        "area:dog>0.2": {large, masked},
        "area:dog>25%": {large},
        "area:dog>=25%": {large, masked},
        "area:dog=0.02": {small},
        "area:dog<0.5": {small, masked},
        "area:dog<=0.5": {large, small, masked},
        "area:dog>0": {large, small, masked},
        "area:dog=0": set(),
        "area:cat=0": {large, small, masked},
        "area:dog>1": set(),
        "area:dog>=0.0000001": {large, small, masked},
    }.items():
        assert pictures.found(asked) == expected, asked


def test_conditions_on_regions_combine_with_everything(pictures: Pictures) -> None:
    first, second, third, *_ = pictures.write("dog", "dog/dog", "dog/dog/dog")
    reading = ReadingArchive(pictures.model.engine, add_text_generation(pictures.model.engine), [])
    reading.write(text_row(second, "give way"), text_row(first, "give way"))
    cats, every = pictures.found("tag:cat"), pictures.found("")
    assert pictures.found("count:dog>=2 tag:cat") == {second, third} & cats
    assert pictures.found("count:dog>=2 -cat") == {second, third} - cats
    assert pictures.found("count:dog>=2 OR cat") == {second, third} | cats
    assert pictures.found("count:dog>=2 read:give") == {second}
    assert pictures.found("count:dog>=2 OR read:give") == {first, second, third}
    assert pictures.found("-(count:dog>=2 OR read:give)") == every - {first, second, third}
    assert pictures.found("some words count:dog>=2") == {second, third}
    pages = [pictures.page("count:dog>=1", limit=2)]
    pages.append(pictures.page("count:dog>=1", limit=2, cursor=pages[0].next_cursor))  # type: ignore[arg-type]
    assert [hit.image_id for page in pages for hit in page.items] == [first, second, third]


def test_a_tag_is_found_by_either_name_and_any_other_name_as_it_was_asked_for(pictures: Pictures) -> None:
    named, other, *_ = pictures.regions.images
    with unit_of_work(pictures.model.engine) as session:
        generation = queries.generation(session, SearchQuery())
        assert generation is not None
        names = pictures.search.vocabulary(session, generation.vocabulary_id)
    english, chinese = next((en, zh) for en, zh in zip(names.names, names.names_zh, strict=True) if zh and en != zh)
    pictures.regions.write(row(named, english.upper()), row(other, "Ｒed  fire hydrant"))  # noqa: RUF001
    assert pictures.found(f"count:{english}>=1") == {named}
    assert pictures.found(f"count:{chinese}>=1") == {named}
    assert pictures.found('count:"red fire hydrant"=1') == {other}


def test_what_changed_since_the_last_search_is_found(pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third, *_ = pictures.write("dog/dog", "dog", "cat")
    assert (pictures.found("count:dog>=2"), pictures.found("count:dog=0")) == ({first}, {third})
    pictures.write("dog", "dog/dog", "cat")
    assert (pictures.found("count:dog>=2"), pictures.found("count:dog=0")) == ({second}, {third})
    said = pictures.regions.correct(second, "dog", place(0), is_there=False)
    drawn = pictures.regions.correct(third, "dog", place(9), is_there=True)
    assert pictures.found("count:dog>=2") == set()
    assert pictures.found("count:dog>=1") == {first, second, third}
    pictures.regions.withdraw(said)
    pictures.regions.withdraw(drawn)
    assert (pictures.found("count:dog>=2"), pictures.found("count:dog=0")) == ({second}, {third})
    other = add_generation(pictures.model.engine, "locator 2")
    pictures.regions.write(row(first, "dog", "dog"), row(third, "dog", "dog"), generation_id=other)
    assert pictures.found("count:dog>=2") == {first, second, third}
    with unit_of_work(pictures.model.engine) as session:
        serving.drop(session, other)
    assert (pictures.found("count:dog>=2"), pictures.found("count:dog=0")) == ({second}, {third})
    pictures.model.delete([second])
    assert pictures.found("count:dog>=1") == {first}
    monkeypatch.setattr(region_search, "MAX_CHANGED", 1)
    fourth = pictures.regions.images[3]
    pictures.regions.write(row(first, "cat"), row(third, "dog"), row(fourth, "dog"))
    assert pictures.found("count:dog>=1") == {third, fourth}
    with unit_of_work(pictures.model.engine) as session:
        serving.drop(session, pictures.regions.generation_id)
    assert pictures.found("count:dog>=0") == set()


def test_what_a_transaction_has_not_committed_is_not_kept(pictures: Pictures) -> None:
    first, second, *_ = pictures.write("dog", "cat")
    where = parse("count:dog>=1").where
    with unit_of_work(pictures.model.engine) as session:
        provenance = Provenance(1, pictures.regions.generation_id, "none")
        regions.write_regions(session, [row(second, "dog"), row(first, "dog")], provenance)
        assert pictures.search.count(session, SearchQuery(where=where)) == 2
        session.rollback()
    assert pictures.found("count:dog>=1") == {first}
    assert pictures.found("count:cat>=1") == {second}


@pytest.mark.parametrize(
    "asked",
    [
        "count:dog",
        "count:dog>=x",
        "area:dog>3",
        'count:"dog>=2',
        "count:" + "x" * 1_900 + ">=1",
        "count:\x00>=1",
        "count:'; DROP TABLE image; --'>=1",
        "count:%(name)s>=1",
        "count:dog>=1 OR " * 100,
    ],
)
def test_no_typed_text_fails(pictures: Pictures, asked: str) -> None:
    pictures.write("dog")
    with unit_of_work(pictures.model.engine) as session:
        query = queries.read(session, SearchQuery(), asked, pictures.search.vocabulary)
        vector = unit_vectors(1, np.random.default_rng(1))[0] if query.text else None
        pictures.search.page(session, query, as_text(vector))


def test_a_note_says_that_nothing_was_located_yet(pictures: Pictures) -> None:
    def notes(asked: str) -> tuple[queries.Note, ...]:
        with unit_of_work(pictures.model.engine) as session:
            query = queries.read(session, SearchQuery(), asked, pictures.search.vocabulary)
            return noting(session, query, pictures.search.vocabulary).notes

    (note,) = notes("-count:dog>=2 cat")
    assert "`ramq locate`" in note.line
    assert pictures.found("count:dog>=0") == set()
    assert notes("dog") == ()
    pictures.write("")
    assert notes("area:dog>0.2") == ()
    (note,) = notes("a count:dog")
    assert "count: takes a tag" in note.line


def test_a_mask_without_pixels_still_counts(pictures: Pictures) -> None:
    image_id = pictures.regions.images[0]
    empty = Mask(4, 4, "`0").to_bytes()
    pictures.regions.write(RegionsRow(image_id, "v1", [FoundRegion("dog", 0.9, place(0), empty, 0.1)], is_cut=False))
    assert pictures.found("count:dog=1 area:dog>0") == {image_id}


# The regions of hits ------------------------------------------------------------------------------------------------


def regions_of(page: HitPage) -> dict[int, list[str]]:
    return {hit.image_id: [f"{one.number} {one.tag}" for one in hit.regions] for hit in page.items}


def test_hits_have_the_regions_of_the_tags_that_the_query_names(pictures: Pictures) -> None:
    first, second, third = pictures.write("dog/cat/dog", "cat/hat/Dog", "hat")
    both = {first: ["1 dog", "3 dog"], second: ["3 Dog"]}
    assert regions_of(pictures.page("count:dog>=1")) == both
    assert regions_of(pictures.page("area:dog>0.001")) == both
    assert regions_of(pictures.page("count:dog>=1 -count:hat>=2")) == both
    either = regions_of(pictures.page("count:hat>=1 OR count:dog>=2"))
    assert either == {first: both[first], second: ["2 hat", "3 Dog"], third: ["1 hat"]}
    assert regions_of(pictures.page("count:dog=0")) == {third: []}
    assert set(map(tuple, regions_of(pictures.page("-count:dog>=1")).values())) == {()}
    hit = next(hit for hit in pictures.page("count:dog>=1").items if hit.image_id == first)
    assert [region.box for region in hit.regions] == [place(0), place(2)]
    assert {region.score for region in hit.regions} == {0.9}


def test_regions_of_hits_are_as_people_corrected_them(pictures: Pictures) -> None:
    first, _ = pictures.write("dog/dog", "dog")
    pictures.regions.correct(first, "dog", place(0), is_there=False)
    pictures.regions.correct(first, "dog", place(7), is_there=True)
    hit = next(hit for hit in pictures.page("count:dog>=1").items if hit.image_id == first)
    assert [(region.box, region.score) for region in hit.regions] == [(place(1), 0.9), (place(7), 1)]


def test_regions_are_read_once_for_a_page_of_hits(pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = pictures.write("dog", "dog/dog", "dog")
    asked: list[int] = []
    views = regions.views

    def counting(session: Session, image_ids: Sequence[int]) -> dict[int, RegionsView]:
        asked.append(len(image_ids))
        return views(session, image_ids)

    monkeypatch.setattr(regions, "views", counting)
    assert len(regions_of(pictures.page("count:dog>=1"))) == len(ids)
    assert asked == [len(ids)]
    pictures.page("")
    assert asked == [len(ids)]


def test_regions_of_a_tag_count_only_in_archives_where_it_counts(pictures: Pictures) -> None:
    everything = ["dog/dog/cat"] * len(pictures.regions.images)
    ids = set(pictures.write(*everything))
    own = pictures.model.archives[0].id
    here = {id_ for id_ in ids if pictures.model.facts[id_].archive == 0}

    def facets(asked: str) -> tuple[dict[str, int], dict[tuple[int, int | None], int]]:
        with unit_of_work(pictures.model.engine) as session:
            told = pictures.search.region_facets(session, asking(SearchQuery(), asked))
        assert told is not None
        return {one.name.lower(): one.count for one in told.tags}, {
            (one.low, one.high): one.count for one in told.numbers
        }

    def rule(kind: Literal["allow", "deny"], name: str, archive_id: int | None) -> None:
        with unit_of_work(pictures.model.engine) as session:
            policies.put(session, name, kind, archive_id, "ann")

    assert here
    assert pictures.found("count:dog>=2") == ids
    rule("deny", "Dog", own)
    assert pictures.found("count:dog>=2") == pictures.found("area:dog>0.01") == ids - here
    assert pictures.found("count:dog<1") == here
    assert pictures.found("count:cat=1") == ids
    assert pictures.found("-count:dog>=1") & ids == here
    assert facets("count:dog>=0") == ({"cat": len(ids), "dog": len(ids - here)}, {(2, 2): len(ids - here)})
    shown = regions_of(pictures.page("count:dog>=1 OR count:cat>=1"))
    assert shown == {id_: ["3 cat"] if id_ in here else ["1 dog", "2 dog", "3 cat"] for id_ in ids}
    one = min(here)
    [left] = pictures.regions.view(one).regions
    assert (left.number, left.tag) == (3, "cat")
    rule("allow", "dog", None)
    assert pictures.found("count:cat>=1") == set()
    assert pictures.found("count:dog>=2") == ids - here
    assert facets("count:dog>=0")[0] == {"dog": len(ids - here)}
    assert pictures.regions.tags(one) == []
    rule("deny", "dog", None)
    rule("allow", "bird", own)
    assert pictures.found("count:dog>=1") == set()
    assert pictures.found("count:cat>=1") == ids - here
    rule("allow", "cat", own)
    assert pictures.found("count:cat>=1") == ids
    assert pictures.regions.tags(one) == ["cat"]
