"""Searches by the vectors of several spaces: texts, images and uploaded pictures, alone and fused."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest
from sqlalchemy import update

from ram_core.spaces import load_text_tower
from ram_core.spaces.tiny import write_tiny_tower
from ramq.services import query_models
from storage.database import unit_of_work
from storage.errors import ModelMissingError, NotFoundError, UsageError
from storage.results import generations, looks
from storage.search.views import SearchQuery
from storage.tables import Generation
from tests.services.command_line import run_here
from tests.services.recognised import CAT, HOSTILE_KEY
from tests.services.spaces import FURTHER, asking_with, make_space

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from fastapi import FastAPI
    from numpy.typing import NDArray
    from sqlalchemy import Engine
    from starlette.testclient import TestClient

    from ramq.wiring import Services
    from storage.search.views import Hit, HitPage
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services

TEXT = "a cat beside a cup of coffee"


def keys_of(ramq: Services) -> dict[int, str]:
    return {hit.image_id: hit.key for hit in ramq.search.page(SearchQuery(limit=100)).items}


def vectors_in(ramq: Services, space: str) -> dict[int, NDArray[np.float32]]:
    with unit_of_work(ramq.engine) as session:
        generation = generations.default(session, space)
        assert generation is not None
        found = {image_id: looks.vector_of(session, generation.id, image_id) for image_id in keys_of(ramq)}
    return {image_id: vector for image_id, vector in found.items() if vector is not None}


def nearest(
    vectors: dict[int, NDArray[np.float32]], query: NDArray[np.float32], without: int | None = None
) -> list[int]:
    return sorted((i for i in vectors if i != without), key=lambda i: (-float(vectors[i] @ query), i))


def pages(search: Callable[[SearchQuery], HitPage], query: SearchQuery) -> list[Hit]:
    page = search(query)
    hits = list(page.items)
    while page.next_cursor:
        page = search(query.after(page.next_cursor))
        hits += page.items
    return hits


def ids(hits: list[Hit]) -> list[int]:
    return [hit.image_id for hit in hits]


def fused(*rankings: list[int]) -> list[int]:
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, image_id in enumerate(ranking, 1):
            scores[image_id] = scores.get(image_id, 0) + 1 / (60 + rank)
    return sorted(scores, key=lambda image_id: (-round(scores[image_id], 12), image_id))


def test_a_text_is_compared_in_the_space_of_a_tower(ramq: Services, worker: Worker, client: TestClient) -> None:
    make_space(ramq, worker, "siglip")
    vectors = vectors_in(ramq, "siglip")
    query = load_text_tower(FURTHER["siglip"], models_dir=ramq.settings.models_path).encode([TEXT])[0]
    order = nearest(vectors, query)
    every = SearchQuery(text=TEXT, space="siglip", relevance=0, limit=4)
    hits = pages(ramq.search.page, every)
    assert ids(hits) == order
    for rank, hit in enumerate(hits, 1):
        assert hit.score == pytest.approx(float(vectors[hit.image_id] @ query), abs=2e-3)
        assert hit.why is not None
        [place] = hit.why.spaces
        assert (place.space, place.of, place.rank, place.similarity) == ("siglip", "text", rank, hit.score)
    page = ramq.search.page(every)
    assert (page.space, page.total, page.unranked) == ("siglip", len(vectors), {})

    narrowed = ramq.search.page(replace(every, tags=(CAT,), limit=100))
    having = set(ids(ramq.search.page(SearchQuery(tags=(CAT,))).items))
    assert ids(narrowed.items) == [image_id for image_id in order if image_id in having]
    assert narrowed.total == len(having)

    cut = ramq.search.page(replace(every, relevance=None, limit=100))
    assert (cut.total, cut.below) == (len(cut.items), len(vectors) - len(cut.items))
    assert ids(cut.items) == order[: len(cut.items)]
    assert sorted(ids(list(ramq.search.export(every)[1]))) == sorted(order)
    counted = ramq.search.facets(replace(every, relevance=0.5), 100)
    listed = ramq.search.page(replace(every, relevance=0.5, limit=100)).items
    assert {facet.id: facet.count for facet in counted} == {
        facet.id: sum(facet.id in {tag.id for tag in hit.tags} for hit in listed) for facet in counted
    }

    answer = client.get("/v1/search", params={"q": TEXT, "space": "siglip", "relevance": 0, "limit": 2}).json()
    assert (answer["space"], answer["unranked"]) == ("siglip", {})
    assert answer["items"][0]["why"]["spaces"][0]["rank"] == 1


def test_several_spaces_are_fused_by_rank(ramq: Services, worker: Worker) -> None:
    make_space(ramq, worker, "siglip")
    by_text, by_siglip = (
        ids(ramq.search.page(SearchQuery(text=TEXT, space=space, relevance=0, limit=100)).items)
        for space in ("text", "siglip")
    )
    query = SearchQuery(text=TEXT, space="text, siglip", relevance=0, limit=4)
    hits = pages(ramq.search.page, query)
    assert ids(hits) == fused(by_text, by_siglip)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    for hit in hits:
        assert hit.why is not None
        assert [(place.space, place.rank) for place in hit.why.spaces] == [
            ("text", by_text.index(hit.image_id) + 1),
            ("siglip", by_siglip.index(hit.image_id) + 1),
        ]
    page = ramq.search.page(query)
    assert (page.space, page.total) == ("text,siglip", len(by_text))
    assert ids(list(ramq.search.export(query)[1])) == ids(hits)
    found, facets, *_ = ramq.search.page_with_facets(query, 100)
    assert ids(found.items) == ids(page.items)
    assert facets == ramq.search.facets(query, 100)
    cut = ramq.search.page(replace(query, relevance=None, limit=100))
    both = {
        image_id
        for space in ("text", "siglip")
        for image_id in ids(ramq.search.page(SearchQuery(text=TEXT, space=space, limit=100)).items)
    }
    assert set(ids(cut.items)) == both
    assert (cut.total, cut.below) == (len(both), len(by_text) - len(both))


def test_a_text_beside_an_image_is_fused_with_how_it_looks(ramq: Services, worker: Worker, client: TestClient) -> None:
    first = ramq.images.find("chelsea.png")
    midway = ids(ramq.search.page(SearchQuery(text=TEXT, like=first, limit=100)).items)
    make_space(ramq, worker, "look")
    by_look = ids(ramq.search.page(SearchQuery(like=first, limit=100)).items)
    by_text = ids(ramq.search.page(SearchQuery(text=TEXT, relevance=0, limit=100)).items)
    by_text.remove(first)
    typed = ramq.search.read(SearchQuery(limit=4), f"{TEXT} like:{first}")
    page = ramq.search.page(typed)
    assert (page.space, page.total) == ("text,look", len(by_look))
    assert ids(pages(ramq.search.page, typed)) == fused(by_text, by_look)
    assert ids(ramq.search.page(SearchQuery(text=TEXT, like=first, space="text", limit=100)).items) == midway
    every = client.get("/v1/search", params={"q": TEXT, "like": first, "space": "text,look", "limit": 1}).json()
    assert [(each["space"], each["of"]) for each in every["items"][0]["why"]["spaces"]] == [
        ("text", "text"),
        ("text", "image"),
        ("look", "image"),
    ]


def test_an_uploaded_picture_is_compared_by_its_look(
    ramq: Services, worker: Worker, client: TestClient, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = (archive / "coffee.png").read_bytes()
    before = client.post("/v1/search/image", content=picture).json()
    assert before["space"] == "text"
    for space in ("look", "siglip", "dino"):
        make_space(ramq, worker, space)
    decoded: list[int] = []
    pool = ramq.search._models._decoders_of(query_models.UPLOAD_SECONDS)
    decode = pool.decode_for_all
    monkeypatch.setattr(pool, "decode_for_all", lambda body, ways: decoded.append(len(ways)) or decode(body, ways))
    coffee = ramq.images.find("coffee.png")
    found = client.post("/v1/search/image", content=picture).json()
    assert (found["space"], found["items"][0]["image_id"]) == ("look", coffee)
    assert found["items"][0]["score"] == pytest.approx(1, abs=5e-3)
    by_dino = ramq.search.by_image(picture, SearchQuery(space="dino"))
    assert (by_dino.space, by_dino.items[0].image_id) == ("dino", coffee)
    assert client.post("/v1/search/image", params={"space": "text"}, content=picture).json()["items"] == before["items"]
    decoded.clear()
    together = client.post(
        "/v1/search/image", params={"q": TEXT, "space": "text,look,siglip", "limit": 3}, content=picture
    ).json()
    assert decoded == [1, 3]  # a glance first, since the tower of siglip is not loaded yet
    assert together["space"] == "text,siglip,look"
    assert [(each["space"], each["of"]) for each in together["items"][0]["why"]["spaces"]] == [
        ("text", "text"),
        ("siglip", "text"),
        ("text", "image"),
        ("look", "image"),
        ("siglip", "image"),
    ]
    words = ramq.search.by_image(picture, SearchQuery(text=TEXT, limit=100))
    assert words.space == "text,look"


def test_images_without_a_vector_are_no_hits_and_are_counted(ramq: Services, worker: Worker) -> None:
    make_space(ramq, worker, "siglip", query=SearchQuery(prefix="c"))
    some = {image_id for image_id, key in keys_of(ramq).items() if key.startswith("c")}
    missing = len(keys_of(ramq)) - len(some)
    page = ramq.search.page(SearchQuery(text=TEXT, space="siglip", relevance=0, limit=100))
    assert set(ids(page.items)) == some
    assert (page.total, page.unranked) == (len(some), {"siglip": missing})
    counted = {
        facet.id: facet.count for facet in ramq.search.facets(SearchQuery(text=TEXT, space="siglip", relevance=0))
    }
    assert counted == Counter(tag.id for hit in page.items for tag in hit.tags)
    both = ramq.search.page(SearchQuery(text=TEXT, space="text,siglip", relevance=0, limit=100))
    assert (both.total, both.unranked) == (len(keys_of(ramq)), {"siglip": missing})
    narrowed = ramq.search.page(SearchQuery(text=TEXT, space="siglip", relevance=0, prefix="co"))
    assert narrowed.unranked == {}


def test_the_server_chooses_the_spaces_of_texts(ramq: Services, worker: Worker) -> None:
    search = asking_with(ramq, "siglip", "dino")
    assert search.page(SearchQuery(text=TEXT)).space == "text"
    for space in ("siglip", "dino"):
        make_space(ramq, worker, space)
    assert search.page(SearchQuery(text=TEXT)).space == "siglip"
    assert search.page(SearchQuery(text=TEXT, space="text")).space == "text"
    assert asking_with(ramq, "text", "siglip").page(SearchQuery(text=TEXT)).space == "text,siglip"
    first = ramq.images.find("chelsea.png")
    assert search.page(SearchQuery(text=TEXT, like=first)).space == "siglip,text"
    assert search.spaces() == ("text", "siglip", "dino")


def test_a_relevance_beside_an_image_cuts_what_is_no_more_like_it_than_others(ramq: Services, worker: Worker) -> None:
    make_space(ramq, worker, "look")
    first = ramq.images.find(HOSTILE_KEY)  # one photograph is there twice
    for space in ("look", "text"):
        every = ramq.search.page(SearchQuery(like=first, space=space, limit=100))
        assert every.below is None
        cut = ramq.search.page(SearchQuery(like=first, space=space, relevance=0.9, limit=100))
        assert 0 < len(cut.items) < len(every.items)
        assert ids(cut.items) == ids(every.items)[: len(cut.items)]
        assert (cut.total, cut.below) == (len(cut.items), len(every.items) - len(cut.items))
        assert ids(pages(ramq.search.page, SearchQuery(like=first, space=space, relevance=0.9, limit=1))) == ids(
            cut.items
        )
        assert len(ramq.search.page(SearchQuery(like=first, space=space, relevance=0, limit=100)).items) == len(
            every.items
        )


def test_nothing_may_look_like_an_image(ramq: Services, worker: Worker) -> None:
    make_space(ramq, worker, "look")
    page = ramq.search.page(SearchQuery(like=ramq.images.find("chelsea.png"), relevance=0.99))
    assert (page.items, page.total, page.below) == ([], 0, len(keys_of(ramq)) - 1)


def test_what_cannot_be_compared_is_told(ramq: Services, worker: Worker, client: TestClient) -> None:
    with pytest.raises(
        NotFoundError, match="no image has a vector in the space siglip yet: run `ramq look --space siglip`"
    ):
        ramq.search.page(SearchQuery(text=TEXT, space="siglip"))
    for space in ("look", "siglip", "dino"):
        make_space(ramq, worker, space)
    with pytest.raises(UsageError, match="dino and look cannot compare texts; spaces that can: text, siglip"):
        ramq.search.page(SearchQuery(text=TEXT, space="dino,look"))
    with pytest.raises(NotFoundError, match="in the space clip yet: run `ramq look --space clip`"):
        ramq.search.page(SearchQuery(text=TEXT, space="text,clip"))
    # What has no texts is left out of several, and without a text or an image nothing is compared.
    assert ramq.search.page(SearchQuery(text=TEXT, space="dino,siglip")).space == "siglip"
    assert ramq.search.page(SearchQuery(tags=(CAT,), space="dino")).space is None
    assert client.get("/v1/search", params={"space": "smell"}).status_code == 422
    twice = client.get("/v1/search", params={"q": TEXT, "space": ["siglip", "text"]}).json()
    assert twice["space"] == "siglip,text"
    page = client.get("/", params={"q": TEXT, "space": "look,text"}).text
    assert "No text can be compared by look, so it was left out." in page
    assert "look (no texts)" in page
    assert "compared by</span> content<" in page
    assert (
        client.get("/v1/tags", params={"q": TEXT, "space": "look"}).json()["detail"].startswith("look cannot compare")
    )


def test_vectors_in_other_number_formats_can_be_compared(ramq: Services, worker: Worker, archive: Path) -> None:
    """A server without a GPU answers for vectors that workers made in 16 bits on theirs."""
    make_space(ramq, worker, "siglip")
    with unit_of_work(ramq.engine) as session:
        session.execute(
            update(Generation)
            .where(Generation.stage == "siglip")
            .values(preprocessing=Generation.preprocessing + "-bfloat16")
        )
    assert ramq.search.page(SearchQuery(text=TEXT, space="siglip")).space == "siglip"
    found = ramq.search.by_image((archive / "coffee.png").read_bytes(), SearchQuery(space="siglip"))
    assert found.items[0].image_id == ramq.images.find("coffee.png")


def test_look_compares_texts_if_its_network_does(ramq: Services, worker: Worker, recognised_engine: Engine) -> None:
    make_space(ramq, worker, "look", FURTHER["clip"])
    assert ramq.search.page(SearchQuery(text=TEXT, space="look", relevance=0)).space == "look"
    environment = {
        "RAMQ_DATABASE_URL": recognised_engine.url.render_as_string(hide_password=False),
        "RAMQ_DATA_DIR": str(ramq.settings.data_dir),
    }
    said = run_here(["search", TEXT, "--space", "look", "--relevance", "0"], environment).stderr
    assert "Ordered by the vectors of look." in said


def test_other_weights_than_those_of_the_archive_are_refused(
    ramq: Services, worker: Worker, make_client: Callable[..., TestClient], archive: Path
) -> None:
    make_space(ramq, worker, "siglip")
    folder = ramq.settings.models_path
    picture = (archive / "coffee.png").read_bytes()
    write_tiny_tower(FURTHER["siglip"], folder, seed=4)
    other = cast("Services", cast("FastAPI", make_client().app).state.services)
    for search in (
        lambda: other.search.page(SearchQuery(text=TEXT, space="siglip")),
        lambda: other.search.by_image(picture, SearchQuery(space="siglip")),
    ):
        with pytest.raises(ModelMissingError, match="siglip2-base has other weights than the one that computed"):
            search()
    (folder / FURTHER["siglip"]).rename(folder / "elsewhere")
    without = cast("Services", cast("FastAPI", make_client().app).state.services)
    with pytest.raises(ModelMissingError, match="run `ramq models pull siglip2-base`"):
        without.search.page(SearchQuery(text=TEXT, space="siglip"))


def test_the_command_line_says_what_was_compared(
    ramq: Services, worker: Worker, client: TestClient, recognised_engine: Engine, archive: Path
) -> None:
    make_space(ramq, worker, "look")
    make_space(ramq, worker, "siglip", query=SearchQuery(prefix="c"))
    environment = {
        "RAMQ_DATABASE_URL": recognised_engine.url.render_as_string(hide_password=False),
        "RAMQ_DATA_DIR": str(ramq.settings.data_dir),
        "RAMQ_TEXT_SPACE": "siglip",
    }
    first = ramq.images.find("chelsea.png")
    told = json.loads(run_here(["search", "--like", str(first), "--limit", "3", "--json"], environment).stdout)
    answer = client.get("/v1/search", params={"like": first, "limit": 3}).json()
    assert [hit["why"] for hit in told["items"]] == [hit["why"] for hit in answer["items"]]
    assert (told["space"], told["unranked"]) == (answer["space"], answer["unranked"]) == ("look", {})

    some = sum(key.startswith("c") for key in keys_of(ramq).values())
    said = run_here(["search", TEXT, "--relevance", "0"], environment).stderr
    assert "Ordered by the vectors of siglip." in said
    missing = len(keys_of(ramq)) - some
    hint = "run `ramq look --space siglip --model siglip2-base`"
    assert f"{missing} matching images have no vector of siglip: {hint}." in said
    without = next(image_id for image_id, key in keys_of(ramq).items() if not key.startswith("c"))
    told_so = f"image {without} has no vector in the space siglip yet: {hint}"
    assert told_so in run_here(["search", "--like", str(without), "--space", "siglip"], environment).stderr
    assert "--space has no effect" in run_here(["search", "--tag", CAT, "--space", "look"], environment).stderr
    three = run_here(["search", TEXT, "--like", str(first), "--space", "text,siglip,look"], environment).stderr
    assert "Ordered by the vectors of text, siglip and look." in three
    by_file = run_here(["search", TEXT, "--like", str(archive / "coffee.png"), "--json"], environment)
    assert json.loads(by_file.stdout)["space"] == "siglip,look"
    tags = run_here(["tags", TEXT, "--space", "siglip", "--relevance", "0.5", "--json"], environment)
    assert json.loads(tags.stdout)["items"]
    exported = run_here(["export", TEXT, "--relevance", "0"], environment).stdout.splitlines()
    assert len(exported) == some
    refused = run_here(["search", TEXT, "--space", "look"], environment)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "look cannot compare texts; spaces that can: text, siglip" in refused.stderr
