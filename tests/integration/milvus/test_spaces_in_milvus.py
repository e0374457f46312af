"""Spaces where the index is in Milvus: each generation of vectors has a collection beside that of recognition."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sqlalchemy import text

from storage.database import unit_of_work
from storage.errors import ConflictError, NotFoundError, UsageError
from storage.index import selection
from storage.index.erasure_check import in_searches
from storage.index.milvus.reader import collections_of
from storage.results import generations, looks, serving
from storage.results import vectors as repository
from storage.results.generations import StageSpec
from storage.results.packing import pack_vectors
from storage.results.records import Provenance
from storage.results.spaces import SPACES
from storage.search.fusion import K
from storage.search.views import SearchQuery
from tests.search_checks import all_pages
from tests.vector_archive import SIZE, unit_vectors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from storage.index.milvus.builder import MilvusBuilder
    from storage.index.milvus.client import Milvus
    from storage.index.milvus.reader import MilvusIndex
    from storage.search.search import Search
    from tests.archive_model import ArchiveModel

pytestmark = pytest.mark.services


@dataclass
class Looks:
    """The vectors of images in a space, in the database and in a dictionary that says what must be found."""

    archive: ArchiveModel
    space: str = "look"
    model: str = "lite"
    vectors: dict[int, NDArray[np.float32]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        spec = StageSpec(self.space, f"{self.space} of {self.model}", self.model, "", "", self.space, SIZE)
        with unit_of_work(self.archive.engine) as session:
            self.generation_id = generations.ensure_of_stage(session, spec)

    def write(self, image_ids: Iterable[int]) -> None:
        ids = sorted(image_ids)
        made = unit_vectors(len(ids), self.archive.rng)
        rows = [looks.LookRow(i, "1", packed) for i, packed in zip(ids, pack_vectors(made), strict=True)]
        with unit_of_work(self.archive.engine) as session:
            looks.write_looks(session, rows, Provenance(1, self.generation_id, "none"))
        self.vectors.update(zip(ids, made, strict=True))

    def delete(self, image_ids: Sequence[int]) -> None:
        self.archive.delete(image_ids)
        for image_id in image_ids:
            self.vectors.pop(image_id, None)

    def nearest(self, query: SearchQuery, among: Iterable[int]) -> list[int]:
        """Return which of the images ``among`` must be found, the most alike first."""
        assert query.like is not None
        liked = self.vectors[query.like]
        found = [i for i in among if i in self.vectors and i != query.like]
        return sorted(found, key=lambda i: (-float(self.vectors[i] @ liked), i))

    def check(self, search: Search, query: SearchQuery) -> None:
        """Compare a search with plain Python."""
        expected = self.nearest(query, self.archive.matching(0, query))
        hits, total = all_pages(self.archive, search, query)
        assert [hit.image_id for hit in hits] == expected, query
        assert total == len(expected)

    def a_query(self) -> SearchQuery:
        alike = self.archive.rng.choice(sorted(self.vectors))
        return replace(self.archive.a_query(0), like=int(alike), space="look")


@pytest.fixture
def look(archive: ArchiveModel) -> Looks:
    archive.record(0, list(archive.facts))
    return Looks(archive)


def collections(milvus: Milvus, archive: ArchiveModel) -> dict[int, list[str]]:
    """Return the collections of each generation."""
    with unit_of_work(archive.engine) as session:
        found = collections_of(milvus, repository.system_identifier(session))
    by_generation: dict[int, list[str]] = {}
    for name, (generation_id, _) in found.items():
        by_generation.setdefault(generation_id, []).append(name)
    return by_generation


@pytest.mark.parametrize("most_listed", [50_000, 0], ids=["ids are read", "neighbours are tested"])
def test_images_like_one_are_found_among_those_that_match_while_the_archive_changes(
    look: Looks, builder: MilvusBuilder, search: Search, monkeypatch: pytest.MonkeyPatch, most_listed: int
) -> None:
    monkeypatch.setattr(selection, "MOST_LISTED", most_listed)
    archive, rng = look.archive, look.archive.rng
    both = (archive.generations[0], look.generation_id)

    changes: list[Callable[[], object]] = [
        lambda: archive.record(0, archive.some(archive.facts, 0.3)),
        lambda: look.write(archive.some(archive.facts, 0.3)),
        lambda: archive.correct(archive.some(archive.facts, 0.2)),
        lambda: look.delete(archive.some(archive.facts, 0.05)),
        lambda: builder.rebuild(both[int(rng.integers(2))]),
        lambda: builder.compact(both[int(rng.integers(2))], purge=True),
        lambda: builder.publish_new(both[0], force=True),
        lambda: builder.publish_new(both[1], force=True),
    ]

    look.write(archive.some(archive.facts, 0.8))
    for kind in (6, 1, 7, 3, 2, *rng.integers(len(changes), size=6).tolist()):
        changes[kind]()
        for _ in range(3):
            look.check(search, look.a_query())
    for generation_id in both:
        builder.publish_new(generation_id, force=True)
        assert builder.verify(generation_id) == []
    look.check(search, look.a_query())
    look.check(search, SearchQuery(like=min(look.vectors), limit=7))


def test_of_more_matches_than_can_be_listed_those_that_are_near_are_found(
    look: Looks, builder: MilvusBuilder, search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = look.archive
    look.write(archive.facts)
    for generation_id in (archive.generations[0], look.generation_id):
        builder.publish_new(generation_id, force=True)
    like = min(archive.facts)
    query = SearchQuery(like=like, tags=("dog",), limit=2)
    near = {like, *look.nearest(query, archive.facts)[:11]}
    expected = look.nearest(query, near.intersection(archive.matching(0, query)))
    assert len(expected) > 2
    monkeypatch.setattr(selection, "MOST_LISTED", 5)
    monkeypatch.setattr(selection, "MOST_TESTED", len(near))

    hits, total = all_pages(archive, search, query)

    assert [hit.image_id for hit in hits] == expected
    assert total is None
    with unit_of_work(archive.engine) as session:
        assert search.facets(session, query, 500) == search.facets(session, replace(query, like=None), 500)
    far = set(archive.facts) - near
    archive.record(0, sorted(far))
    elsewhere = replace(query, tags=(), job=archive.results[0][min(far)].job_id)
    assert not near.intersection(archive.matching(0, elsewhere)), "the job recorded others only"
    assert len(archive.matching(0, elsewhere)) > 5
    with unit_of_work(archive.engine) as session, pytest.raises(UsageError, match=r"none of the 12 nearest ones does"):
        search.page(session, elsewhere)
    assert all_pages(archive, search, replace(query, tags=()))[1] == len(archive.facts) - 1


@pytest.mark.parametrize("most_listed", [50_000, 0], ids=["ids are read", "neighbours are tested"])
def test_spaces_are_fused_by_rank(
    look: Looks, builder: MilvusBuilder, search: Search, monkeypatch: pytest.MonkeyPatch, most_listed: int
) -> None:
    monkeypatch.setattr(selection, "MOST_LISTED", most_listed)
    archive = look.archive
    siglip = Looks(archive, "siglip")
    look.write(archive.facts)
    siglip.write(archive.some(archive.facts, 0.8))
    for generation_id in (archive.generations[0], look.generation_id, siglip.generation_id):
        builder.publish_new(generation_id, force=True)
    like = min(siglip.vectors)
    query = SearchQuery(like=like, tags=("dog",), space="look,siglip,text", limit=7)
    matching = archive.matching(0, query)
    rankings = [look.nearest(query, matching), siglip.nearest(query, matching)]
    rankings.append(archive.nearest(0, query, archive.results[0][like].vector))

    def score(image_id: int) -> float:
        return sum((K + 1) / (K + ranked.index(image_id) + 1) for ranked in rankings if image_id in ranked) / 3

    hits, total = all_pages(archive, search, query)

    expected = sorted(rankings[0], key=lambda i: (-round(score(i), 12), i))
    assert [hit.image_id for hit in hits] == expected
    assert [hit.score for hit in hits] == pytest.approx([score(i) for i in expected])
    assert total == len(expected)
    with unit_of_work(archive.engine) as session:
        page = search.page(session, query)
    assert page.unranked == {"siglip": len([i for i in matching if i not in siglip.vectors])}


def test_deleted_images_leave_both_collections(
    look: Looks, builder: MilvusBuilder, index: MilvusIndex, search: Search
) -> None:
    archive = look.archive
    look.write(archive.facts)
    both = (archive.generations[0], look.generation_id)
    for generation_id in both:
        builder.publish_new(generation_id, force=True)
    victims = sorted(archive.facts)[1:5]
    look.delete(victims)

    def left() -> list[int]:
        with unit_of_work(archive.engine) as session:
            traces = in_searches(session, index, np.array(victims))
        places = tuple(f"searches under generation {generation_id}" for generation_id in both)
        found = {trace.place: trace.left for trace in traces}
        assert [found[place] for place in places] == [0, 0]
        return [count for place, count in found.items() if place.startswith("collection")]

    assert left() == [4, 4]
    look.check(search, SearchQuery(like=min(look.vectors), limit=500))
    builder.compact(look.generation_id, purge=True)
    assert left() == [4, 0]
    builder.compact(archive.generations[0], purge=True)
    assert left() == [0, 0]
    look.check(search, SearchQuery(like=min(look.vectors), limit=500))


def test_a_damaged_collection_of_a_space_is_reported_and_rebuilt(
    look: Looks, builder: MilvusBuilder, index: MilvusIndex, search: Search, milvus: Milvus
) -> None:
    archive = look.archive
    look.write(sorted(archive.facts)[2:])
    for generation_id in (archive.generations[0], look.generation_id):
        builder.publish_new(generation_id, force=True)
    [name] = collections(milvus, archive)[look.generation_id]
    lost, other, *_ = sorted(look.vectors)
    milvus.delete(name, [lost])
    with milvus.opened() as client:
        [row] = client.query(name, filter=f"pk == {-other}", output_fields=["*"])
        client.upsert(name, [{**row, "vector": look.vectors[lost]}])

    assert [line.partition(":")[0] for line in builder.verify(look.generation_id)] == [
        f"{name} lacks 1 images, for example image {lost}",
        f"{name} differs from the database in 1 images, for example image {other}",
    ]
    assert builder.verify(archive.generations[0]) == []
    builder.rebuild(look.generation_id)
    assert builder.verify(look.generation_id) == []
    with unit_of_work(archive.engine) as session:
        status = index.status(session, look.generation_id)
        assert (status.stage, status.segments, status.vectors_indexed) == ("look", 1, len(look.vectors))

    for gone in collections(milvus, archive)[look.generation_id]:
        milvus.drop(gone)
    query = SearchQuery(like=other, tags=("dog",), limit=500)
    look.check(search, query)
    assert "has no collection" in builder.verify(look.generation_id)[0]
    builder.publish_new(look.generation_id, force=True)
    assert builder.verify(look.generation_id) == []
    look.check(search, query)


def test_the_collection_of_a_dropped_generation_is_dropped_and_no_other(
    look: Looks, builder: MilvusBuilder, search: Search, milvus: Milvus
) -> None:
    archive = look.archive
    further = Looks(archive, model="another")
    for of in (look, further):
        of.write(archive.facts)
    every = (archive.generations[0], look.generation_id, further.generation_id)
    for generation_id in every:
        builder.publish_new(generation_id, force=True)
    assert set(collections(milvus, archive)) == set(every)
    query = SearchQuery(like=min(archive.facts), space="look", limit=500)
    look.check(search, query)

    with unit_of_work(archive.engine) as session:
        serving.use(session, further.generation_id)
        serving.drop(session, look.generation_id)
    further.check(search, query)
    assert builder.collect_garbage() == 1
    assert set(collections(milvus, archive)) == {archive.generations[0], further.generation_id}
    further.check(search, query)

    with unit_of_work(archive.engine) as session:
        with pytest.raises(ConflictError):
            serving.drop(session, archive.generations[0])
        serving.drop(session, further.generation_id)
    assert builder.collect_garbage() == 1
    assert set(collections(milvus, archive)) == {archive.generations[0]}
    with unit_of_work(archive.engine) as session:
        assert search.page(session, replace(query, space=None)).space == "text"
        with pytest.raises(NotFoundError, match="ramq look"):
            search.page(session, query)


def test_a_replaced_collection_is_kept_while_a_search_may_read_it(
    look: Looks, builder: MilvusBuilder, search: Search, milvus: Milvus
) -> None:
    look.write(look.archive.facts)
    builder.publish_new(look.generation_id, force=True)
    builder.rebuild(look.generation_id)
    assert builder.collect_garbage() == 0
    assert len(collections(milvus, look.archive)[look.generation_id]) == 2
    with unit_of_work(look.archive.engine) as session:
        session.execute(text("UPDATE index_state SET published_at = now() - interval '1 hour'"))
    assert builder.collect_garbage() == 1
    look.check(search, SearchQuery(like=min(look.vectors), limit=500))


def test_each_space_has_a_collection_of_its_own(
    archive: ArchiveModel, builder: MilvusBuilder, index: MilvusIndex, milvus: Milvus
) -> None:
    archive.record(0, list(archive.facts))
    images = sorted(archive.facts)
    spaces = [Looks(archive, space) for space in SPACES]
    for number, space in enumerate(spaces):
        space.write(images[number:])
        builder.publish_new(space.generation_id, force=True)
    assert set(collections(milvus, archive)) == {space.generation_id for space in spaces}
    archive.delete(images[-3:])
    for number, space in enumerate(spaces):
        builder.publish_new(space.generation_id, force=True)
        assert builder.verify(space.generation_id) == []
        with unit_of_work(archive.engine) as session:
            view = index.view(session, space.generation_id)
        assert selection.Selection.of(view, None).ids().tolist() == images[number:-3]
