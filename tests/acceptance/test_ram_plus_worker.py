"""A worker with RAM++ on made-up weights archives pictures end to end: the numbers are noise, the way is real."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from ram_core.modeling.tiny import write_tiny_models
from storage.errors import RamqError
from storage.search.views import SearchQuery
from tests.photographs import photographs
from tests.services.fleet import check_counters, client_services, running_fleet, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from ramq.settings import Settings

pytestmark = [pytest.mark.services, pytest.mark.slow]


def test_ram_plus_archives_pictures_with_tags_vectors_and_captions(settings: Settings, tmp_path: Path) -> None:
    models = tmp_path / "models"
    for model in ("ram_plus", "tag2text"):
        write_tiny_models(model, models)
    folder = tmp_path / "photos"
    folder.mkdir()
    for photograph in photographs(12)[:12]:
        shutil.copy(photograph, folder)
    large = settings.model_copy(update={"models_dir": models, "captioner": "tag2text"})
    environment = {"RAMQ_MODELS_DIR": str(models), "RAMQ_LEASE_SECONDS": "30"}
    with (
        client_services(large) as services,
        running_fleet(large, tmp_path, is_null=False, **environment) as fleet,
    ):
        fleet.start(1)
        job = services.jobs.create(str(folder), model="ram_plus")
        view = wait_for(services, job.id, fleet, lambda view: view.is_over, timeout=240)
        assert (view.state, view.done, view.failed) == ("done", 12, 0), fleet.log()[-3000:]
        check_counters(services, job.id)
        [generation] = services.generations.list()
        assert (generation.model, generation.vector_size, generation.vector_kind) == ("ram_plus", 512, "image")
        page = services.search.page(SearchQuery(limit=12))
        assert len(page.items) == 12
        tagged = next(hit for hit in page.items if hit.tags)
        assert tagged.caption
        assert services.images.get(tagged.image_id).captioner == "tag2text"
        again = services.search.page(SearchQuery(tags=(tagged.tags[0].name,), limit=12))
        assert tagged.image_id in {hit.image_id for hit in again.items}
        near = services.search.page(SearchQuery(like=tagged.image_id, limit=3))
        assert len(near.items) == 3
        assert tagged.image_id not in {hit.image_id for hit in near.items}
        with pytest.raises(RamqError, match="ramq models pull"):
            services.search.page(SearchQuery(text="a dog"))  # the text encoder was not pulled
