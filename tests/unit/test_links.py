"""The links of the search page: those that are put together say the same as those that are written whole."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ramq.web.pages.links import Links
from storage.results.views import TagView
from storage.search.language import NotOf, TagTerm, all_of, parse
from storage.search.views import Hit, SearchQuery, Why

TAGS = ("dog", "polar bear", 'a "quoted" one', "-minus", "or", "cat/kitty", "猫", "after:2024", "a+b&c=d", "score")
QUERIES = (
    "",
    "a red boat",
    "tag:dog",
    "dog OR cat",
    "a boat (dog OR cat) -people archive:1",
    "-people",
    'text:"a - b" generation:3',
    "score:dog>0.8 after:2024-01-01",
    "count:dog>=2 read:harbour",
)


def links_of(text: str, **others: object) -> Links:
    parsed = parse(text)
    query = SearchQuery(text=parsed.text, where=parsed.where, generation=parsed.generation)
    return Links(replace(query, **others), picture=None)  # type: ignore[arg-type]  # fields of the query


@pytest.mark.parametrize("text", QUERIES)
@pytest.mark.parametrize("others", [{}, {"tags": ("dog",), "relevance": 0.0, "cursor": "WzFd", "special": True}])
def test_a_term_is_added_as_if_the_whole_query_were_written(text: str, others: dict[str, object]) -> None:
    links = links_of(text, **others)
    parts = () if links.query.where is None else (links.query.where,)
    for tag in TAGS:
        assert links.with_tag(tag) == links.changed(where=all_of([*parts, TagTerm(tag)]))
        assert links.excluding(tag) == links.changed(where=all_of([*parts, NotOf(TagTerm(tag))]))


@pytest.mark.parametrize(
    ("text", "tags", "is_required"),
    [
        ("tag:Dog", (), True),
        ("a boat tag:dog -cat", (), True),
        ("score:dog>0.5", (), True),
        ("", ("DOG",), True),
        ("dog OR cat", (), False),
        ("-dog", (), False),
        ("a dog", (), False),
    ],
)
def test_the_link_of_a_facet_takes_a_required_tag_away_and_adds_another(
    text: str, tags: tuple[str, ...], is_required: bool
) -> None:
    links = links_of(text, tags=tags)
    assert links.toggling("dog") == (links.without_tag("dog") if is_required else links.with_tag("dog"))
    assert (links.without_tag("dog") != links.changed()) == is_required


def test_a_hit_shows_the_tags_that_are_asked_for_and_a_few_others() -> None:
    names = ("dog", "poodle", "table", "cup", "chair", "lamp", "door")
    tags = [TagView(number, name, None, 0.9, 0.5) for number, name in enumerate(names)]
    hit = Hit(1, "a.jpg", "file:///a", 0.9, tags, None, 1, 10, 10)
    asked, others, special = links_of("tag:DOOR OR #3").tags_of(hit)
    assert [tag.name for tag in asked] == ["cup", "door"]
    assert [tag.name for tag in others] == ["poodle", "table", "chair"]  # a poodle is enough of a dog
    assert [tag.name for tag in special] == [*names[1:], "dog"]
    named = replace(hit, why=Why(0.5, tags=[2]))
    assert [tag.name for tag in links_of("a boat").tags_of(named)[0]] == ["table"]
