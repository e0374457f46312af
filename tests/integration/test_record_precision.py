"""Records say in which number format their tags were computed, wherever an image is shown."""

from __future__ import annotations

import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from ram_core.modeling.tiny import write_tiny_models
from ramq.demo_photos import installed_photographs
from ramq.settings import load_settings
from ramq.wiring import Services
from storage.database import unit_of_work
from storage.errors import UsageError
from tests.services.command_line import run_here
from tests.services.missing import missing
from tests.services.recognised import make_worker, recognise, settings_for
from tests.services.web import services_of
from workers.pipeline.captioner import SharedCaptioner
from workers.pipeline.fitness import UnfitError
from workers.pipeline.model_holder import LoadedModel, ModelHolder, load_here
from workers.pipeline.model_options import ModelOptions

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from sqlalchemy import Engine
    from starlette.testclient import TestClient

    from workers.lifecycle import Worker

pytestmark = pytest.mark.services


def formats(services: Services) -> list[tuple[int | None, int]]:
    with unit_of_work(services.engine) as session:
        rows = session.execute(text("SELECT precision, count(*) FROM record GROUP BY 1 ORDER BY 1")).all()
    return [tuple(row) for row in rows]


def work_on_one_shard(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> int:
    claimed: list[Any] = []
    claim = worker._claim

    def claim_once(able: Any) -> list[Any]:
        if claimed:
            return []
        claimed.extend(claim(able))
        return claimed

    with monkeypatch.context() as here:
        here.setattr(worker, "_claim", claim_once)
        return worker.work()


def test_workers_of_other_formats_share_a_job(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photographs = [path for path in installed_photographs() if path.suffix == ".png"][:3]
    if len(photographs) < 3:
        missing("the photographs of scikit-image are not installed: install the extra `dev`")
    archive, models = tmp_path / "photos", tmp_path / "models"
    archive.mkdir()
    for photograph in photographs:
        shutil.copy(photograph, archive)
    write_tiny_models("ram_plus", models)
    wanted: dict[str, Any] = {"models_dir": models, "model": "ram_plus", "captioner": "none", "shard_size": 1}
    services = Services(
        settings_for(tmp_path / "data", precision="bfloat16", **wanted), engine, None, is_reachable=False
    )
    certified = Services(
        settings_for(tmp_path / "data", precision="certified", **wanted), engine, None, is_reachable=False
    )
    job = services.jobs.create(str(archive))
    workers = [make_worker(services), make_worker(certified)]
    assert [work_on_one_shard(worker, monkeypatch) for worker in workers] == [1, 1]
    while not services.jobs.get(job.id).is_over:
        workers[0].work()
    for worker in workers:
        worker.leave()
    assert services.jobs.get(job.id).done == 3
    assert {number for number, _ in formats(services)} == {2, 3}
    assert len(services.generations.list()) == 1
    assert recognise(certified, str(archive)).skipped == 3, "what another format made need not be made again"
    assert {services.images.get(services.images.find(each.name)).precision for each in photographs} == {
        "bfloat16",
        "certified",
    }


def test_the_format_is_shown(client: TestClient, recognised_engine: Engine) -> None:
    services = services_of(client)
    cat = services.images.find("chelsea.png")
    assert formats(services)[0][0] == 0, "lite computes in float32 on a CPU"
    assert client.get(f"/v1/images/{cat}").json()["precision"] == "float32"
    assert "<dt>Number format</dt><dd>float32</dd>" in client.get(f"/images/{cat}").text
    environment = {
        "RAMQ_DATABASE_URL": recognised_engine.url.render_as_string(hide_password=False),
        "RAMQ_DATA_DIR": str(services.settings.data_dir),
    }
    assert "number format float32" in run_here(["show", str(cat)], environment).stdout
    assert '"precision": "float32"' in run_here(["show", str(cat), "--json"], environment).stdout
    with unit_of_work(services.engine) as session:  # as recorded by an earlier version
        session.execute(text("UPDATE record SET precision = NULL"))
    assert client.get(f"/v1/images/{cat}").json()["precision"] is None
    assert "Number format" not in client.get(f"/images/{cat}").text


def test_new_tags_of_stored_tokens_have_the_format_of_the_tokens(tmp_path: Path) -> None:
    captioner = SharedCaptioner(ModelOptions("cpu", tmp_path, tmp_path), load_here)

    runner = SimpleNamespace(precision="float32")
    model = LoadedModel("ram_plus", SimpleNamespace(runner=runner), None, captioner)  # type: ignore[arg-type]
    assert [model.precision_after(before) for before in ("float32", "bfloat16", "certified", None)] == [
        "float32",
        "bfloat16",
        "bfloat16",
        None,
    ]
    runner.precision = "float16"
    assert model.precision_after("float32") == "float16"


def test_a_bad_format_is_refused(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAMQ_PRECISION", "int8")
    with pytest.raises(UsageError, match=r"RAMQ_PRECISION: .*'auto', 'float32', 'bfloat16', 'float16' or 'certified'"):
        load_settings()
    holder = ModelHolder(engine, ModelOptions("cpu", tmp_path, tmp_path, "float16"), None)
    with pytest.raises(UnfitError, match="float16 is not available on the CPU; use auto, bfloat16 or float32 there"):
        holder.get("ram_plus")
