"""The models of a process that searches, while files of models, and generations, come and go."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from ram_core.spaces.tiny import write_tiny_tower
from ramq.doctor.models import towers as check_towers
from ramq.services import query_models
from storage.errors import ModelMissingError, NoGenerationError, UsageError
from storage.search.views import SearchQuery
from tests.services.command_line import run_here
from tests.services.spaces import FURTHER, asking_with, make_space, space_worker

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine
    from starlette.testclient import TestClient

    from ramq.wiring import Services
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services

TEXT = "a cat beside a cup of coffee"
OWN = "tiny-siglip"


@pytest.fixture
def ramq(ramq: Services) -> Services:
    write_own(ramq, 1)
    return ramq


def write_own(ramq: Services, seed: int) -> None:
    """A tower in a folder of one's own."""
    published = write_tiny_tower(FURTHER["siglip"], ramq.settings.data_dir / "elsewhere", seed=seed)
    shutil.copytree(published, ramq.settings.models_path / OWN, dirs_exist_ok=True)


def towers(ramq: Services) -> list[tuple[str, str]]:
    found = check_towers(ramq.settings, ramq.engine)
    return [(each.state, each.detail) for each in found]


def test_a_server_takes_weights_that_were_replaced_while_it_runs(
    ramq: Services, worker: Worker, client: TestClient, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_space(ramq, worker, "siglip", OWN)
    query, picture = SearchQuery(text=TEXT, space="siglip", relevance=0), (archive / "coffee.png").read_bytes()
    before = ramq.search.page(query).items
    assert ramq.search.by_image(picture, SearchQuery(space="siglip")).items[0].score == pytest.approx(1, abs=2e-3)
    assert towers(ramq) == [("ok", f"{OWN}, which made the vectors of siglip, has the same weights here")]

    write_own(ramq, 2)
    assert ramq.search.page(query).items == before  # what is loaded made these vectors
    assert towers(ramq)[0][0] == "fault"
    with space_worker(ramq) as another:
        job = make_space(ramq, another, "siglip", OWN)
    ramq.stages.use(cast("int", job.generation_id))
    assert client.get("/v1/search", params={"q": TEXT, "space": "siglip"}).status_code == 200
    assert ramq.search.by_image(picture, SearchQuery(space="siglip")).items[0].score == pytest.approx(1, abs=2e-3)

    write_own(ramq, 3)
    ramq.stages.use(cast("int", job.generation_id) - 1)
    loaded: list[str] = []
    load = query_models.load_text_tower
    monkeypatch.setattr(query_models, "load_text_tower", lambda *a, **kw: loaded.append("text") or load(*a, **kw))
    for _ in range(3):
        answer = client.get("/v1/search", params={"q": TEXT, "space": "siglip"})
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:ramq:problem:model-missing")
        assert "has other weights than the one that computed" in answer.json()["detail"]
    assert loaded == ["text"]  # not again for each request


def test_a_missing_tower_is_named_and_a_search_that_did_not_ask_for_it_goes_on(
    ramq: Services, worker: Worker, client: TestClient, archive: Path, recognised_engine: Engine
) -> None:
    picture = (archive / "coffee.png").read_bytes()
    make_space(ramq, worker, "siglip", OWN)
    make_space(ramq, worker, "look", OWN)
    (ramq.settings.models_path / OWN).rename(ramq.settings.data_dir / "gone")
    missing = f"searching by siglip needs {OWN}, which made its vectors: it is not in RAMQ_MODELS_DIR"
    answer = client.get("/v1/search", params={"q": TEXT, "space": "siglip"})
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:ramq:problem:model-missing")
    assert missing in answer.json()["detail"]
    page = client.get("/", params={"q": TEXT, "space": "siglip"}, headers={"accept": "text/html"})
    assert (page.status_code, missing in page.text) == (503, True)
    with pytest.raises(ModelMissingError):
        ramq.search.by_image(picture, SearchQuery(space="look,text"))
    assert [(state, "cannot be read (No such file" in said) for state, said in towers(ramq)] == [("fault", True)] * 2

    by_text = ramq.search.page(SearchQuery(text=TEXT)).items
    for usual in (("siglip", "text"), ("siglip",)):
        found = asking_with(ramq, *usual).page(SearchQuery(text=TEXT))
        assert (found.space, found.items) == ("text", by_text)
        assert [f"The space siglip was left out: {missing}" in note.text for note in found.notes] == [True]
        with pytest.raises(ModelMissingError):  # what is exported, or erased, is not another thing than usual
            asking_with(ramq, *usual).image_ids(SearchQuery(text=TEXT))
    by_picture = ramq.search.by_image(picture, SearchQuery())
    assert (by_picture.space, by_picture.items[0].image_id) == ("text", ramq.images.find("coffee.png"))
    assert "The space look was left out" in by_picture.notes[0].text
    environment = {
        "RAMQ_DATABASE_URL": recognised_engine.url.render_as_string(hide_password=False),
        "RAMQ_DATA_DIR": str(ramq.settings.data_dir),
        "RAMQ_TEXT_SPACE": "siglip",
    }
    said = run_here(["search", TEXT], environment)
    assert (said.returncode, "The space siglip was left out" in said.stderr) == (0, True)
    assert run_here(["search", TEXT, "--space", "siglip"], environment).returncode == 1


def test_what_is_no_picture_is_refused_before_a_tower_is_loaded(
    ramq: Services, worker: Worker, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_space(ramq, worker, "siglip")

    def load(*_: Any, **__: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(query_models, "load_image_encoder", load)
    answer = client.post("/v1/search/image?space=siglip", content=b"hello world")
    assert (answer.status_code, "is not a picture" in answer.json()["detail"]) == (422, True)


def test_a_search_goes_on_with_what_serves_when_its_generation_is_dropped(
    ramq: Services, worker: Worker, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_space(ramq, worker, "siglip")
    former = make_space(ramq, worker, "siglip", OWN).generation_id
    assert former is not None
    ramq.stages.use(former)
    encode, encode_picture = ramq.search._models.encode_text, ramq.search._models.encode_picture
    dropping: list[int] = []

    def and_drop(encoded: Any) -> Any:
        if dropping:
            ramq.stages.drop(dropping.pop())
        return encoded

    monkeypatch.setattr(ramq.search._models, "encode_text", lambda *a: and_drop(encode(*a)))
    monkeypatch.setattr(ramq.search._models, "encode_picture", lambda *a: and_drop(encode_picture(*a)))
    dropping.append(former)
    assert ramq.search.page(SearchQuery(text=TEXT, space="siglip", relevance=0)).total
    again = make_space(ramq, worker, "siglip", OWN).generation_id
    assert again is not None
    ramq.stages.use(again)
    dropping.append(again)
    picture = (archive / "coffee.png").read_bytes()
    assert ramq.search.by_image(picture, SearchQuery(space="siglip,text")).items
    assert not dropping
    with pytest.raises(NoGenerationError):
        ramq.search.page(replace(SearchQuery(text=TEXT), generation=30_000))
    with pytest.raises(UsageError):
        ramq.search.page(SearchQuery(text=TEXT, space="siglip", relevance=2))
