"""Searching the text in pictures: what ``read:`` and the words of a text find, in which order, and when they fail."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sqlalchemy import text

from storage.database import unit_of_work
from storage.errors import UsageError
from storage.results import line_corrections, partitions, reading_search, serving
from storage.search import query as queries
from storage.search.language import parse
from storage.search.notes import noting
from storage.search.orders import MAX_READ
from storage.search.views import SearchQuery, asking
from tests.archive_model import ArchiveModel
from tests.reading_archive import ReadingArchive, add_text_generation, box, row
from tests.vector_archive import as_text, unit_vectors

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from storage.index.builder import IndexBuilder
    from storage.search.search import Search
    from storage.search.views import Hit, HitPage

pytestmark = pytest.mark.services


@dataclass
class Pictures:
    """Recognised images, some of them with text."""

    model: ArchiveModel
    reading: ReadingArchive
    search: Search

    def write(self, *texts: str) -> list[int]:
        """Write texts (lines joined by /) into the first images. Return their ids."""
        ids = self.reading.images[: len(texts)]
        self.reading.write(*(row(image_id, *lines.split("/")) for image_id, lines in zip(ids, texts, strict=True)))
        return ids

    def page(self, asked: str, **options: object) -> HitPage:
        with unit_of_work(self.model.engine) as session:
            query = replace(asking(SearchQuery(limit=500), asked), **options)  # type: ignore[arg-type]
            vector = unit_vectors(1, np.random.default_rng(1))[0] if query.text else None
            return self.search.page(session, query, as_text(vector))

    def hits(self, asked: str) -> list[Hit]:
        return self.page(asked).items

    def found(self, asked: str) -> set[int]:
        page = self.page(asked)
        assert page.total == len(page.items)
        return {hit.image_id for hit in page.items}


@pytest.fixture
def pictures(engine: Engine, search: Search, builder: IndexBuilder) -> Pictures:
    model = ArchiveModel(engine, images_of_each=8)
    model.record(0, list(model.facts))
    builder.publish_new(model.generations[0], force=True)
    return Pictures(model, ReadingArchive(engine, add_text_generation(engine), sorted(model.facts)), search)


def test_words_phrases_and_beginnings_are_found(pictures: Pictures) -> None:
    give, way, invoice, both = pictures.write("GIVE WAY", "way to give", "Invoices: 12", "no/give/way here")
    every = set(pictures.model.facts)
    assert pictures.found('read:"give way"') == {give, both}  # over the end of a line too
    assert pictures.found("read:give") == {give, way, both}
    assert pictures.found("read:invoice*") == {invoice}
    assert pictures.found('read:"give w*"') == {give, both}
    assert pictures.found('-read:"give way"') == every - {give, both}
    assert pictures.found("(read:give OR read:invoice*) -read:here") == {give, way, invoice}
    assert pictures.found("read:give read:no") == {both}
    assert pictures.found("read:nothing") == set()


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("Café", "cafe"),
        ("cafe", "CAFÉ"),
        ("\uff26\uff35\uff2c\uff2c", "full"),
        ("don\u2019t", "dont"),
        ("dont", "don't"),
        ("Rocky's", "rocky"),
        ("AB-1234", "AB1234"),
        ("AB1234", "AB-1234"),
        ("AB-1234", "1234"),
        ("小猫咪", "猫"),
        ("小猫咪", "小猫"),
        ("小猫咪", "小猫咪"),
        ("見る ﾊﾞｽ", "バス"),
        ("1,000 kg", "1000"),
        ("Straße", "strasse"),
    ],
)
def test_spellings_do_not_matter(pictures: Pictures, written: str, asked: str) -> None:
    (image_id, _) = pictures.write(written, "something else")
    assert pictures.found(f'read:"{asked}"') == {image_id}


@pytest.mark.parametrize("asked", ["咪小", "abc", "猫狗", "caf", "AB-123", "way give"])
def test_what_does_not_stand_there_is_not_found(pictures: Pictures, asked: str) -> None:
    pictures.write("小猫咪 café AB-1234 give way")
    assert pictures.found(f'read:"{asked}"') == set()


def test_filters_tags_and_a_similar_image_combine_with_it(pictures: Pictures) -> None:
    ids = pictures.write(*["stop"] * 12)
    tagged = {image_id for image_id, _ in pictures.model.by_tags(0, SearchQuery(tags=("cat",)))}
    assert pictures.found("read:stop tag:cat") == tagged & set(ids)
    assert pictures.found("read:stop OR tag:cat") == tagged | set(ids)
    assert pictures.found(f"read:stop like:{ids[0]}") == set(ids[1:])
    assert pictures.found("read:stop a text") == set(ids)


def test_misread_words_are_found_after_those_that_were_read_right(pictures: Pictures) -> None:
    wrong, right, other, none = pictures.write("HOSPIIAI north", "Hospital north", "hospitals", "hospice")
    hits = pictures.hits("read:hospital")
    assert [hit.image_id for hit in hits] == [right, other, wrong]
    assert [hit.score for hit in hits] == [1.0, 0.5, 0.5]
    assert pictures.found('read:"hospital north"') == {right, wrong}
    assert none in pictures.found("-read:hospital")
    assert pictures.found("-read:hospital").isdisjoint({wrong, right, other})
    pages = [pictures.page("read:hospital", limit=1)]
    while cursor := pages[-1].next_cursor:
        pages.append(pictures.page("read:hospital", limit=1, cursor=cursor))
    assert [page.items[0].image_id for page in pages] == [right, other, wrong]
    with unit_of_work(pictures.model.engine) as session:
        query = SearchQuery(where=parse("read:hospital").where)
        every = pictures.search.all_hits(session, query)
        assert every is not None
        assert [(hit.image_id, hit.score) for hit in every[1]] == [(wrong, 0.5), (right, 1.0), (other, 0.5)]
    tags = [hit.score for hit in pictures.hits("read:hospital OR tag:cat")]
    assert tags == sorted(tags, reverse=True)


def test_short_words_and_numbers_are_not_guessed(pictures: Pictures) -> None:
    five, ten, year = pictures.write("five tin", "ten live", "1984")
    assert pictures.found("read:tin") == {five}
    assert pictures.found("read:five") == {five}
    assert pictures.found("read:1985") == set()
    assert pictures.found("read:1984") == {year}
    assert pictures.found("read:ten") == {ten}


def test_what_changed_since_the_last_search_is_found(pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = pictures.write("common", "common", "rare")
    assert pictures.found("read:common") == {first, second}
    pictures.reading.write(row(second, "gone"), row(third, "common rare"))
    assert pictures.found("read:common") == {first, third}
    with unit_of_work(pictures.model.engine) as session:
        line_corrections.correct(session, first, box(0), "corrected", "ann")
    assert pictures.found("read:common") == {third}
    assert pictures.found("read:corrected") == {first}
    pictures.model.delete([third])
    assert pictures.found("read:common") == set()
    pictures.reading.write(row(second), row(first, "common", "common"))
    assert pictures.found("read:gone") == set()
    assert pictures.found("read:common") == {first}
    monkeypatch.setattr(reading_search, "MAX_CHANGED", 1)
    pictures.write("x", "common")
    assert pictures.found("read:common") == {second}


def test_the_generation_that_serves_is_searched_also_after_it_was_emptied(pictures: Pictures) -> None:
    (first, second) = pictures.write("old", "old")
    other = add_text_generation(pictures.model.engine, "reader 2")
    pictures.reading.write(row(first, "new"), generation_id=other)
    assert pictures.found("read:old") == {first, second}
    with unit_of_work(pictures.model.engine) as session:
        serving.use(session, other)
    assert (pictures.found("read:old"), pictures.found("read:new")) == (set(), {first})
    with unit_of_work(pictures.model.engine) as session:
        partitions.empty(session, other, "text")
    pictures.reading.write(row(second, "new"), generation_id=other)
    assert pictures.found("read:new") == {second}


def test_what_a_transaction_has_not_committed_is_not_kept(pictures: Pictures) -> None:
    (first, second) = pictures.write("old", "old")
    where = parse("read:new").where
    with unit_of_work(pictures.model.engine) as session:
        session.execute(text("UPDATE reading_index SET words = '''new''' , xid = pg_current_xact_id()"))
        assert pictures.search.count(session, SearchQuery(where=where)) == 2
        session.rollback()
    assert pictures.found("read:new") == set()
    assert pictures.found("read:old") == {first, second}


def test_a_hit_tells_the_lines_and_the_characters_that_match(pictures: Pictures) -> None:
    (first, second) = pictures.write("no/GIVE/way to 小猫咪, give way", "HOSPIIAI/AB-1234")
    (hit,) = pictures.hits('read:"give way"')
    assert hit.image_id == first
    assert [(match.line.number, match.line.text, match.spans) for match in hit.read] == [
        (2, "GIVE", [(0, 4)]),
        (3, "way to 小猫咪, give way", [(0, 3), (12, 16), (17, 20)]),
    ]
    assert [match.spans for match in pictures.hits("read:小猫咪")[0].read] == [[(7, 10)]]
    (hit,) = pictures.hits("read:hospital OR read:AB1234")
    assert (hit.image_id, [(m.line.text, m.spans) for m in hit.read]) == (
        second,
        [("HOSPIIAI", [(0, 8)]), ("AB-1234", [(0, 7)])],
    )
    assert pictures.hits("-read:nothing")[0].read == []
    pictures.write("/".join(["word"] * 9))
    assert [match.line.number for match in pictures.hits("read:word")[0].read] == [1, 2, 3, 4, 5]


def test_a_text_puts_the_pictures_first_in_which_all_its_words_stand(pictures: Pictures) -> None:
    plain = [hit.image_id for hit in pictures.hits("please give way")]
    worst, some, swapped = plain[-1], plain[-2], plain[-3]
    pictures.reading.write(row(worst, "PLEASE", "give way"), row(some, "give way"), row(swapped, "way please give"))
    hits = pictures.hits("please give way")
    assert {hit.image_id for hit in hits[:2]} == {worst, swapped}
    assert [hit.image_id for hit in hits[2:]] == [image_id for image_id in plain if image_id not in {worst, swapped}]
    for hit in hits:
        assert hit.why is not None
        assert hit.why.is_read == (hit.image_id in {worst, swapped})
        known = max(0, hit.why.similarity) + 1 if hit.why.is_read else hit.why.similarity
        assert hit.score == pytest.approx(known, abs=1e-6)
    (first,) = (hit for hit in hits if hit.image_id == worst)
    assert [(match.line.text, match.spans) for match in first.read] == [
        ("PLEASE", [(0, 6)]),
        ("give way", [(0, 4), (5, 8)]),
    ]
    assert hits[-1].read == []


@pytest.mark.parametrize("asked", ["the", "it is", "a", "?!", "please hospital"])
def test_stop_words_alone_and_a_part_of_the_words_put_nothing_first(pictures: Pictures, asked: str) -> None:
    before = [hit.image_id for hit in pictures.hits(asked)]
    pictures.reading.write(row(before[-1], "the a it is please"))
    hits = pictures.hits(asked)
    assert [hit.image_id for hit in hits] == before
    assert not any(hit.why.is_read for hit in hits if hit.why)


def test_a_text_finds_words_in_pictures_below_the_relevance_cutoff(pictures: Pictures) -> None:
    names = unit_vectors(64, np.random.default_rng(2))
    vector = unit_vectors(1, np.random.default_rng(1))[0]
    query = SearchQuery(text="give way", relevance=1.0, limit=500)
    with unit_of_work(pictures.model.engine) as session:
        before = pictures.search.page(session, query, as_text(vector, names))
    assert before.below
    every = {hit.image_id for hit in before.items}
    lost = next(image_id for image_id in pictures.reading.images if image_id not in every)
    pictures.reading.write(row(lost, "give way"))
    with unit_of_work(pictures.model.engine) as session:
        after = pictures.search.page(session, query, as_text(vector, names))
    assert [hit.image_id for hit in after.items] == [lost, *(hit.image_id for hit in before.items)]
    assert (after.total, after.below) == (len(every) + 1, before.below - 1)


def test_words_of_a_text_in_too_many_pictures_put_only_the_newest_first(
    pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MAX_READ > 100
    monkeypatch.setattr("storage.search.ordering.MAX_READ", 3)
    ids = pictures.write(*["give way"] * 10)
    first = [hit.image_id for hit in pictures.hits("give way") if hit.why and hit.why.is_read]
    assert set(first) == set(ids[-3:])


@pytest.mark.parametrize("value", ['"?!"', '"*"', "-", '"  "'])
def test_a_reading_without_a_word_is_refused_in_plain_words(pictures: Pictures, value: str) -> None:
    with pytest.raises(UsageError, match="needs a word with letters or digits") as raised:
        pictures.page(f"cat AND read:{value}")
    assert raised.value.at == 8


def test_other_things_that_cannot_be_asked_for(pictures: Pictures) -> None:
    with pytest.raises(UsageError, match="needs a value"):
        pictures.page("read:")
    with pytest.raises(UsageError, match="at least 2 letters"):
        pictures.page("read:a*")
    with pytest.raises(UsageError, match="at most 64 words"):
        pictures.page(f'read:"{"a " * 65}"')
    assert pictures.found("read:小*") == set()


@pytest.mark.parametrize(
    "value",
    [
        "a' | 'b",
        "give & way | !x",
        "<-> give :* <2>",
        "'; DROP TABLE reading; --",
        "x\\' \\\\ \\",
        "give:A*",
        "%s %(query)s {generation_id}",
        "a\u0301\u0301\u0301",
        "\U0001f600 x",
        "x" * 1_900,
        "猫" * 64,
        "-".join("abcdefgh"),
    ],
)
def test_no_value_is_taken_for_an_operator(pictures: Pictures, value: str) -> None:
    (image_id, _) = pictures.write(f"before {value} after", "give")
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    assert pictures.found(f'read:"{escaped}"') == {image_id}


@pytest.fixture
def typed(pictures: Pictures) -> Callable[[str], SearchQuery]:
    """Reads any text as the box of the page does."""

    def read(asked: str) -> SearchQuery:
        with unit_of_work(pictures.model.engine) as session:
            query = queries.read(session, SearchQuery(), asked, pictures.search.vocabulary)
            query = noting(session, query, pictures.search.vocabulary)
            vector = unit_vectors(1, np.random.default_rng(1))[0] if query.text else None
            pictures.search.page(session, query, as_text(vector))
            return query

    return read


@pytest.mark.parametrize(
    "asked",
    [
        "read:" + "a " * 1_000,
        'read:"' + "ab " * 700 + '"',
        'read:"' + "猫" * 1_990 + '"',
        "read:" + "x-" * 990,
        "read:x OR " * 250,
        "read:\U0001d54f*" * 100,
        "read:'" * 500,
        " ".join(f"word{n}" for n in range(300)),
        "(" * 500 + "read:x" + ")" * 500,
        "read:\x00\ud800",
    ],
)
def test_no_typed_text_fails(pictures: Pictures, typed: Callable[[str], SearchQuery], asked: str) -> None:
    pictures.write("x", "ab ab ab", "猫猫")
    typed(asked)


def test_a_note_says_that_nothing_was_read_yet(pictures: Pictures, typed: Callable[[str], SearchQuery]) -> None:
    (note,) = typed("read:give").notes
    assert "No text was read in pictures yet" in note.line
    assert "`ramq read`" in note.line
    assert pictures.found("read:give") == set()
    assert typed("give").notes == ()
    pictures.write("")
    assert typed("read:give").notes == ()
