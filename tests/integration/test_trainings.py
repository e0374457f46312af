"""Trainings on the page and over HTTP, and a trained model from `ramq train` to what search serves."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from ram_core import load_vocabulary
from ram_core.modeling.tiny import write_tiny_checkpoint
from ram_core.runs import locked, read_run
from ramq.cli.main import command_line
from ramq.services.dataset_views import BuildRequest
from ramq.wiring import Services
from storage.search.views import SearchQuery
from tests.datasets import work
from tests.made_up_run import add_line, write_made_up_run
from tests.services.command_line import run_here
from tests.services.recognised import make_worker, settings_for
from tests.services.web import assert_problem, services_of
from tests.small_run import write_small_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy import Engine
    from starlette.testclient import TestClient

pytestmark = pytest.mark.services


def test_the_page_shows_trainings_and_its_link_only_if_there_are_any(client: TestClient) -> None:
    folder = services_of(client).settings.training_path
    assert "No trainings yet" in client.get("/training").text
    assert 'href="/training"' not in client.get("/jobs").text
    run = write_made_up_run(folder / "birds <1>")
    with locked(run):
        page = client.get("/training").text
    assert 'href="/training"' in client.get("/jobs").text
    assert "birds &lt;1&gt;" in page
    assert 'hx-get="/training"' in page
    assert "step 30 of 40 · epoch 2 of 2 · 13.0 images/s · 20 s left · 2 bad images" in " ".join(page.split())
    assert 'aria-label="total: from 90.5 to 3.5"' in page
    assert 'aria-label="validation mAP: from 0.25 to 0.35"' in page
    add_line(run, kind="state", state="failed", note="the loss 'tag' is nan")
    ended = client.get("/training").text
    assert "the loss &#39;tag&#39; is nan" in ended
    assert "hx-get" not in ended


def test_trainings_are_read_over_http(client: TestClient) -> None:
    folder = services_of(client).settings.training_path
    assert client.get("/v1/training").json() == {"items": [], "next_cursor": None}
    write_made_up_run(folder / "birds")
    (item,) = client.get("/v1/training").json()["items"]
    assert (item["name"], item["state"], item["step"], item["steps"]) == ("birds", "interrupted", 30, 40)
    assert item["data"] == {"name": "birds.json", "images": 520, "captions": 1040}
    assert item["scores"] == [{"epochs": 0, "validation_map": 0.25}, {"epochs": 1, "validation_map": 0.35}]
    one = client.get("/v1/training/birds").json()
    assert [point["step"] for point in one["points"]] == list(range(1, 31))
    assert one["points"][0]["losses"]["total"] == 90.5
    for name in ("nothing", "..", "%2e%2e", "..%2Fbirds", "a%00b"):
        assert client.get(f"/v1/training/{name}").status_code in {400, 404}
    assert_problem(client.get("/v1/training/nothing"), 404, "not-found")


def test_a_damaged_folder_hides_no_other_training(client: TestClient) -> None:
    folder = services_of(client).settings.training_path
    write_made_up_run(folder / "birds")
    write_made_up_run(folder / "pipe")
    (folder / "pipe" / "scalars.jsonl").unlink()
    os.mkfifo(folder / "pipe" / "scalars.jsonl")
    write_made_up_run(folder / "deep").joinpath("run.json").write_bytes(b"[" * 100_000)
    write_made_up_run(folder / "zone", started="2026-11-29T05:00:00")
    odd = write_made_up_run(folder / os.fsdecode(b"odd\xff"), started="2026-11-29T03:00:00+00:00")
    add_line(odd, kind="state", state="exploded")
    add_line(odd, kind="step", epoch=1, step=float("nan"), learning_rate=1.0, losses={})
    answer = client.get("/v1/training")
    assert [item["name"] for item in answer.json()["items"]] == ["birds", "odd?"]
    page = client.get("/training")
    assert page.status_code == 200
    assert "nan" not in page.text
    for name in ("pipe", "deep", "zone"):
        assert_problem(client.get(f"/v1/training/{name}"), 404, "not-found")


def test_trainings_need_a_token_if_any_are_set(make_client: Callable[..., TestClient]) -> None:
    client = make_client(api_tokens=("reader:read:secret",))
    assert client.get("/v1/training").status_code == 401
    assert client.get("/v1/training", headers={"Authorization": "Bearer secret"}).status_code == 200


def test_a_trained_model_recognises_beside_its_parent_is_compared_served_and_rolled_back(
    make_client: Callable[..., TestClient], archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "small"
    home.mkdir()
    small, out = write_small_run(home), tmp_path / "run"
    monkeypatch.setenv("RAMQ_MODELS_DIR", str(small.models))
    for words in (
        small.words(out, "--epochs", "1"),
        ["models", "add", "parent", "--from", str(out)],
        small.words(tmp_path / "more", "--epochs", "1", "--from", str(out)),
        ["models", "add", "child", "--from", str(tmp_path / "more")],
    ):
        done = CliRunner().invoke(command_line(words[0]), words)
        assert done.exit_code == 0, done.output
    listed = json.loads(CliRunner().invoke(command_line("models"), ["models", "list", "--json"]).stdout)
    assert [each["name"] for each in listed if each["state"] == "trained"] == ["ram_plus@child", "ram_plus@parent"]
    assert listed[-2]["card"]["parent"]["name"] == "run"

    client = make_client(models_dir=small.models, captioner="none", features="tokens")
    services = services_of(client)
    assert services.jobs.models()[-2:] == ["ram_plus@child", "ram_plus@parent"]
    assert "ram_plus@child" in client.get("/jobs").text
    created = client.post("/v1/jobs", json={"source": str(archive), "model": "ram_plus@parent"})
    assert created.status_code == 201, created.text
    child = services.jobs.create(str(archive), model="ram_plus@child")
    worker = make_worker(services)
    while not services.jobs.get(child.id).is_over:
        worker.work()
    worker.leave()
    assert {services.jobs.get(number).state for number in (created.json()["id"], child.id)} == {"done"}

    _, old, new = services.generations.list()
    assert (old.model, new.model) == ("ram_plus@parent", "ram_plus@child")
    assert old.weights_sha256 != new.weights_sha256
    assert old.images == new.images > 0
    assert services.generations.compare(old.id, new.id).images_both == old.images
    services.generations.use(old.id)
    services.generations.use(new.id)
    hits = services.search.page(SearchQuery(limit=100)).items
    assert len(hits) == new.images
    assert services.generations.rollback().id == old.id
    like = services.search.page(SearchQuery(like=hits[0].image_id, limit=3))
    assert like.items


def test_an_archive_is_data_of_a_training(
    recognised_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "small"
    home.mkdir()
    small = write_small_run(home)
    imagenet = load_vocabulary("imagenet")
    write_tiny_checkpoint("ram", home / "tiny.pth", tags=len(imagenet), captions=True)
    environment = {
        "RAMQ_DATABASE_URL": recognised_engine.url.render_as_string(hide_password=False),
        "RAMQ_DATA_DIR": str(tmp_path / "data"),
        "RAMQ_MODELS_DIR": str(small.models),
    }
    sizes = ["--batch", "4", "--size", "32", "--epochs", "1", "--device", "cpu", "--out", str(tmp_path / "run")]
    start = ["--from", str(small.weights), "--vocabulary", "lite"]
    done = run_here(["train", "finetune", "--dataset", "archive:1", *start, *sizes], environment)
    assert done.returncode == 0, done.stderr
    run = read_run(tmp_path / "run")
    assert (run.state, run.model) == ("finished", "ram")
    assert (run.data["kind"], run.data["name"]) == ("archive", "archive:1")
    assert run.data["images"] >= 4
    for source, told in (("archive:nothing", "nothing"), ("archive:1 tag:", "tag:")):
        refused = run_here(
            ["train", "finetune", "--dataset", source, *start, *sizes[:-1], str(home / "x")], environment
        )
        assert refused.returncode == 2, refused.stderr
        assert told in refused.stderr
    both = ["--dataset", "archive:1", "--dataset", str(home / "data" / "train.json")]
    refused = run_here(["train", "finetune", *both, *start, *sizes[:-1], str(home / "x")], environment)
    assert "an archive or a data set is data alone" in refused.stderr


def test_a_data_set_is_data_of_a_training_and_of_an_evaluation(recognised_engine: Engine, tmp_path: Path) -> None:
    home = tmp_path / "small"
    home.mkdir()
    small = write_small_run(home)
    write_tiny_checkpoint("ram", home / "tiny.pth", tags=len(load_vocabulary("imagenet")), captions=True)
    environment = {
        "RAMQ_DATABASE_URL": recognised_engine.url.render_as_string(hide_password=False),
        "RAMQ_DATA_DIR": str(tmp_path / "data"),
        "RAMQ_MODELS_DIR": str(small.models),
    }
    services = Services(settings_for(tmp_path / "data"), recognised_engine, None, is_reachable=False)
    request = BuildRequest(sources=("1",), validation=0.4)
    version = work(services, services.datasets.build("pets", request))
    assert version.counts["validation"] > 0
    sizes = ["--batch", "4", "--size", "32", "--epochs", "1", "--device", "cpu"]
    words = ["--from", str(small.weights), "--vocabulary", "lite", *sizes, "--out", str(tmp_path / "run")]
    done = run_here(["train", "finetune", "--dataset", "pets", *words], environment)
    assert done.returncode == 0, done.stderr
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["settings"]["dataset"] == ["dataset:pets@1/train"]
    assert run["settings"]["validate"] == ["dataset:pets@1/validation"]
    for kind, split in (("data", "training"), ("validation", "validation")):
        about = run[kind]
        assert (about["name"], about["dataset_sha256"]) == (f"pets@1, {split}", version.sha256)
    again = run_here(["train", "finetune", "--resume", *words, "--dataset", "pets@1"], environment)
    assert again.returncode == 0, again.stderr
    unknown = run_here(["train", "finetune", "--dataset", "birds", *words[:-1], str(tmp_path / "x")], environment)
    assert unknown.returncode == 2
    assert "birds is no file or folder, and there is no data set 'birds'; data sets: pets" in unknown.stderr
    scored = run_here(
        ["evaluate", "lite", "--dataset", "pets", "--device", "cpu", "--out", str(tmp_path / "scores"), "--json"],
        environment,
    )
    assert scored.returncode == 0, scored.stderr
    assert json.loads(scored.stdout)["data"]["name"] == "pets@1, validation"
