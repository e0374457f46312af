"""A worker with a full-size RAM++ on made-up weights, in several number formats: images/s and stored tags."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.worker_rate import ROOT, run_worker
from ram_core.modeling.tiny import write_tiny_models
from ramq.settings import Settings
from storage.migrate import upgrade
from tests.photographs import photographs
from tests.services.breakable import breakable_services
from tests.services.fleet import client_services, running_fleet
from tests.services.postgres import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from ramq.wiring import Services

WARM_UP = 4


def measure(names: Sequence[str], images: int, thresholds: torch.Tensor) -> dict[str, Any]:
    """Let one worker after the other archive the same photographs.

    Args:
        names: number formats; the first is what tags are compared with.
        images: number of photographs.
        thresholds: (T,) logits above which a tag is assigned.
    """
    found: dict[str, Any] = {}
    tags: dict[str, dict[str, frozenset[str]]] = {}
    with tempfile.TemporaryDirectory(prefix="ramq-precision-") as folder:
        root = Path(folder)
        models = root / "models"
        write_tiny_models("ram_plus", models, tags=len(thresholds), full=True)
        (models / "ram_plus" / "ram_tag_list_threshold.txt").write_text(
            "\n".join(f"{each:.9f}" for each in thresholds.sigmoid().tolist()), encoding="utf-8"
        )
        sources = _photographs(root, images)
        with breakable_services(root / "services") as running:
            for number, name in enumerate(names):
                data = root / f"way{number}"
                data.mkdir()
                url = PostgresServer(running.database_url).create_database(data.name)
                settings = Settings(data_dir=data, database_url=url, broker_url=running.broker_url, model="ram_plus")
                environment = {
                    "RAMQ_MODEL": "ram_plus",
                    "RAMQ_MODELS_DIR": str(models),
                    "RAMQ_PRECISION": name,
                    "OMP_NUM_THREADS": str(os.cpu_count()),
                    "RAMQ_BATCH_SIZE": "8",
                    "RAMQ_LEASE_SECONDS": "60",
                }
                with (
                    client_services(settings) as services,
                    running_fleet(settings, data, is_null=False, **environment) as fleet,
                ):
                    upgrade(services.engine)
                    found[name] = run_worker(services, fleet, ROOT, sources)
                    tags[name] = _tags(services, sources[1])
                    print(name, found[name], flush=True)
    exact = tags[names[0]]
    for name, each in tags.items():
        found[name]["tags_per_image"] = sum(map(len, each.values())) / len(each)
        found[name]["images_with_other_tags"] = sum(each[key] != exact[key] for key in exact)
    return found


def _photographs(root: Path, images: int) -> tuple[Path, Path]:
    """Copy photographs into two folders: those that warm a worker up, and those that count."""
    paths = photographs(images + WARM_UP)
    random.Random(0).shuffle(paths)
    sources = root / "warm", root / "photographs"
    for source, some in zip(sources, (paths[:WARM_UP], paths[WARM_UP : WARM_UP + images]), strict=True):
        source.mkdir()
        for number, path in enumerate(some):
            shutil.copy(path, source / f"{number:03}{path.suffix}")
    return sources


def _tags(services: Services, folder: Path) -> dict[str, frozenset[str]]:
    """Return the names of the assigned tags of each photograph."""
    views = {
        path.name: services.images.get(services.images.find(path.name, archive=str(folder)))
        for path in folder.iterdir()
    }
    return {name: frozenset(tag.name for tag in view.tags if tag.is_assigned) for name, view in views.items()}
