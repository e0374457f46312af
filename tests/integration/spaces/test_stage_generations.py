"""Several generations of a stage: which one search uses is told wherever it is not the one that was just made."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from ram_core.spaces.tiny import write_tiny_tower
from storage.errors import NotFoundError
from storage.results.spaces import SPACES
from storage.search.views import SearchQuery
from tests.services.command_line import run_here
from tests.services.recognised import make_worker
from tests.services.spaces import make_space
from workers.pipeline.fitness import UnfitError
from workers.pipeline.model_holder import ModelHolder
from workers.pipeline.model_options import ModelOptions
from workers.pipeline.stage_holder import StageHolder
from workers.stages import StageOptions

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.testclient import TestClient

    from ramq.wiring import Services
    from storage.results.stages import StageGeneration
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services


@pytest.fixture
def ramq(ramq: Services) -> Services:
    write_tiny_tower("siglip2-base", ramq.settings.models_path / "made", seed=5)
    (ramq.settings.models_path / "made" / "siglip2-base").rename(ramq.settings.models_path / "mine")
    return ramq


@pytest.fixture
def environment(ramq: Services) -> dict[str, str]:
    return {
        "RAMQ_DATABASE_URL": ramq.engine.url.render_as_string(hide_password=False),
        "RAMQ_DATA_DIR": str(ramq.settings.data_dir),
    }


def of(ramq: Services, space: str) -> list[StageGeneration]:
    return [each for each in ramq.stages.generations() if each.stage == space]


def some(ramq: Services) -> SearchQuery:
    """A search with some of the images."""
    return SearchQuery(prefix=ramq.images.get(ramq.images.find("chelsea.png")).key)


def test_results_that_search_leaves_aside_are_told(
    ramq: Services, worker: Worker, environment: dict[str, str], client: TestClient, tmp_path: Path
) -> None:
    first = ramq.stages.estimate("siglip", SearchQuery())
    assert first.unused is None
    make_space(ramq, worker, "siglip", "mine", some(ramq))
    [serving] = of(ramq, "siglip")
    told = ramq.stages.estimate("siglip", SearchQuery()).unused
    assert told is not None
    assert f"For siglip, search uses the results of mine, generation {serving.id} with 1 image." in told
    assert "`ramq stages use NUMBER` makes search use it" in told
    assert ramq.stages.estimate("siglip", SearchQuery(), model="mine").unused is None
    assert client.post("/v1/stages/siglip/estimate", json={}).json()["unused"] == told
    Image.new("RGB", (64, 64)).save(tmp_path / "black.png")
    before = run_here(["enqueue", str(tmp_path), "--stages", "siglip"], environment)
    assert told in before.stderr
    ramq.jobs.cancel(int(before.stdout.split()[0]))
    job = make_space(ramq, worker, "siglip")
    _, new = of(ramq, "siglip")
    use = f"Those of siglip2-base are in generation {new.id} with {first.images} images: `ramq stages use {new.id}`"
    assert use in ramq.stages.unused([job])[0]
    # All is done, and search finds none of it.
    asked = run_here(["look", "--space", "siglip", "--dry-run"], environment)
    assert "There is nothing left to do." in asked.stdout
    assert use in asked.stderr
    assert use in run_here(["job", str(job.id)], environment).stderr
    chosen = run_here(["stages", "use", str(new.id)], environment)
    assert f"Search now uses generation {new.id} (siglip, siglip2-base): the vectors of {first.images} images." in (
        chosen.stderr
    )
    assert "returns to it" not in chosen.stderr
    assert ramq.stages.unused([job]) == []
    assert "ramq stages use" not in run_here(["look", "--space", "siglip", "--dry-run"], environment).stderr


def test_a_generation_with_fewer_images_is_not_chosen_or_dropped_in_silence(
    ramq: Services, worker: Worker, environment: dict[str, str]
) -> None:
    every = make_space(ramq, worker, "siglip").done
    make_space(ramq, worker, "siglip", "mine", some(ramq))
    whole, part = of(ramq, "siglip")
    fewer = run_here(["stages", "use", str(part.id)], environment)
    assert f"Generation {whole.id}, which it used before, has the vectors of {every} images." in fewer.stderr
    assert f"`ramq stages use {whole.id}` returns to it." in fewer.stderr
    refused = run_here(["stages", "drop", str(part.id)], environment)
    assert refused.returncode == 2
    assert (
        f"Search uses generation {whole.id} (siglip, siglip2-base) then: the vectors of {every} images. Erase the "
        in (refused.stderr)
    )
    assert f"the vectors of 1 image of generation {part.id} (siglip, mine), which search uses" in refused.stderr
    ramq.stages.use(whole.id)
    other = ramq.stages.about_drop(part.id)
    assert (other.question, other.then) == (f"Erase the vectors of 1 image of generation {part.id} (siglip, mine)?", "")
    dropped = run_here(["stages", "drop", str(whole.id), "--yes"], environment)
    assert f"Erased: the vectors of {every} images. Search uses generation {part.id} (siglip, mine) then" in (
        dropped.stderr
    )
    last = run_here(["stages", "drop", str(part.id), "--yes"], environment)
    assert "Search has no other results of siglip." in last.stderr


def test_replaced_weights_are_seen_by_the_estimate_and_by_a_worker_that_loaded_the_former_ones(
    ramq: Services, worker: Worker
) -> None:
    every = make_space(ramq, worker, "siglip").done
    assert make_space(ramq, worker, "siglip").done == 0
    [former] = of(ramq, "siglip")
    write_tiny_tower("siglip2-base", ramq.settings.models_path, seed=7)
    estimate = ramq.stages.estimate("siglip", SearchQuery())
    assert estimate.done == 0
    assert estimate.images_per_second, "the same model was as fast with other weights"
    assert estimate.unused is not None
    assert f"search uses the results of siglip2-base, generation {former.id}" in estimate.unused
    assert make_space(ramq, worker, "siglip").done == every
    _, new = of(ramq, "siglip")
    assert (new.images, new.weights_sha256 != former.weights_sha256) == (every, True)
    estimate = ramq.stages.estimate("siglip", SearchQuery())
    assert estimate.done == every
    assert estimate.unused is not None
    assert f"`ramq stages use {new.id}`" in estimate.unused


def test_no_result_is_stored_as_one_of_weights_that_were_replaced_meanwhile(ramq: Services) -> None:
    folder = ramq.settings.models_path
    models = StageHolder(StageOptions("cpu", folder), SPACES)
    first = models.get("siglip", "siglip2-base")
    shard: Any = SimpleNamespace(
        stage="siglip", model="siglip2-base", job_id=4, fingerprint=first.spec.fingerprint, generation_id=1
    )
    assert models.get_new("siglip", "siglip2-base") is first
    assert models.get_for(shard) is first
    write_tiny_tower("siglip2-base", folder, seed=7)
    assert models.get_for(shard) is first, "a job that runs goes on with what it began with"
    second = models.get_new("siglip", "siglip2-base")
    assert second.spec.weights_sha256 != first.spec.weights_sha256
    with pytest.raises(UnfitError, match="the files of siglip2-base were replaced while job 4 ran"):
        models.get_for(shard)
    holder = ModelHolder(ramq.engine, ModelOptions("cpu", folder, ramq.settings.cache_path), None, models)
    assert not holder.is_fit_for(shard)
    write_tiny_tower("siglip2-base", folder, seed=8)
    third = StageHolder(StageOptions("cpu", folder), SPACES).get("siglip", "siglip2-base")
    shard.fingerprint, shard.generation_id = third.spec.fingerprint, 2
    assert holder.is_fit_for(shard), "a worker that loaded the former weights takes the jobs of new ones"
    assert holder.other_generations == {1}


def test_a_misspelt_tower_is_refused_before_a_job_waits_for_it(
    ramq: Services, environment: dict[str, str], tmp_path: Path
) -> None:
    refused = run_here(["look", "--space", "dino", "--model", "nopee"], environment)
    assert refused.returncode == 2
    assert "nopee is neither in" in refused.stderr
    assert "Models of dino that can be pulled: dinov2-base." in refused.stderr
    assert not [job for job in ramq.jobs.list().items if job.stage == "dino"]
    elsewhere = tmp_path / "models"
    write_tiny_tower("dinov2-base", elsewhere).rename(elsewhere / "nopee")
    models = StageHolder(StageOptions("cpu", elsewhere), SPACES)
    rich = make_worker(ramq, ModelHolder(ramq.engine, ModelOptions("cpu", elsewhere, tmp_path), None, models))
    rich.start()
    assert ramq.stages.start("dino", SearchQuery(), model="nopee")
    rich.leave()


def test_vectors_that_are_not_there_name_the_command_that_makes_them(ramq: Services) -> None:
    with pytest.raises(NotFoundError, match=r"run `ramq look`$"):
        ramq.stages.vectors("look")
    with pytest.raises(NotFoundError, match=r"run `ramq look --space dino`$"):
        ramq.stages.vectors("dino")
