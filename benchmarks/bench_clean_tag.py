"""How much memory and time does cleaning a tag with a million regions take, from the database to the new labels?

    python -m benchmarks.bench_clean_tag --regions 1000000

The regions are made up: unit vectors around some centres, of which a tenth are strays. Reading, K-Means++, decisions
and labels are those of a worker (``workers.datasets.cluster``), on an embedded PostgreSQL.
"""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from sqlalchemy import text

from benchmarks.memory import extra_bytes
from benchmarks.report import begin, options, write
from ram_core.cleaning import CleaningSettings
from ramq.embedded import embedded
from storage.database import driver_connection, make_engine, unit_of_work
from storage.datasets import items, labels, tasks, versions
from storage.index.feature_files import FeatureFiles
from storage.index.file_storage import FolderStorage
from storage.ledger import jobs
from storage.migrate import upgrade
from storage.objects.source import parse_source
from storage.results import archives, generations
from storage.results.generations import StageSpec
from storage.results.packing import pack_vectors
from workers.datasets.cluster import ClusterPhase
from workers.datasets.phase import Tools
from workers.datasets.scale import ScalePhase

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from workers.datasets.phase import Phase

EACH = 2
"""Regions of a picture."""

WIDTH = 384
"""Of a vector, as of ``lite``."""

CENTRES, STRAYS, BLOCK = 20, 0.1, 20_000
TAG = "thing"
_COLUMNS = ("int8", "int2", "int2", "text", "int2[]", "text[]", "int2[]", "bytea")


def main() -> None:
    """Measure."""
    parser = options(__doc__)
    parser.add_argument("--regions", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=None, help="where the database is; default: the temporary one")
    chosen = parser.parse_args()
    report = begin(width=WIDTH, regions=chosen.regions, regions_of_a_picture=EACH)
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name, embedded(Path(name) / "services") as services:
        engine = make_engine(services.database_url)
        upgrade(engine)
        began = time.monotonic()
        version_id = _fill(engine, chosen.regions // EACH)
        report["seconds_to_fill"] = round(time.monotonic() - began, 1)
        tools = Tools(engine, FeatureFiles(FolderStorage(Path(name) / "index")))
        phases: dict[str, Phase] = {"scale": ScalePhase(), "cluster": ClusterPhase()}
        for named, phase in phases.items():
            with unit_of_work(engine) as session:
                versions.set_phase(session, version_id, named)
                view = versions.view(session, version_id)
                tasks.add(session, version_id, named, phase.plan(session, view))
                versions.set_planned(session, version_id)
            began = time.monotonic()
            peak = extra_bytes(partial(_work, engine, tools, phase), torch.device("cpu"))
            report[named] = {
                "seconds": round(time.monotonic() - began, 1),
                "peak_megabytes": round(peak / 1e6),
            }
        with unit_of_work(engine) as session:
            [result] = tasks.results(session, version_id, "cluster")
            written = session.scalar(
                text("SELECT count(*) FROM dataset_label WHERE version_id = :id"), {"id": version_id}
            )
        result.pop("typical")
        report["result"] = result | {"labels_written": written}
        engine.dispose()
    write(chosen, "clean-tag", report)


def _work(engine: Engine, tools: Tools, phase: Phase) -> None:
    """Do a task, as a worker does."""
    with unit_of_work(engine) as session:
        task = tasks.claim(session, owner="bench", lease_seconds=600)
        assert task is not None
        version = versions.view(session, task.version_id)
    store = phase.run(tools, version, task)
    with unit_of_work(engine) as session:
        tasks.finish(session, task, 0)
        tasks.set_result(session, task, store(session) or {})


def _fill(engine: Engine, pictures: int) -> int:
    """Write pictures with their labels and regions. Return the version that is to be cleaned."""
    with unit_of_work(engine) as session:
        archive, _ = archives.ensure(session, parse_source("s3://made-up"))
        session.execute(
            text(
                """INSERT INTO image (archive_id, key, version, size)
                   SELECT :id, lpad(n::text, 9, '0'), '1', 1 FROM generate_series(1, :pictures) AS n ORDER BY n"""
            ),
            {"id": archive.id, "pictures": pictures},
        )
        vocabulary_id = session.scalar(
            text("INSERT INTO vocabulary (sha256, name, size) VALUES ('x', 'made up', 1) RETURNING id")
        )
        assert vocabulary_id is not None
        session.execute(
            text("INSERT INTO tag (vocabulary_id, id, name, threshold) VALUES (:id, 0, :name, 0.5)"),
            {"id": vocabulary_id, "name": TAG},
        )
        dataset_id = versions.create(session, "things", vocabulary_id, "bench")
        parent_id = _parent(session, dataset_id)
        made = {
            stage: generations.ensure_of_stage(session, StageSpec(stage, stage, "lite", "", "", vector_size=WIDTH))
            for stage in ("locate", "crops")
        }
        job_ids = {}
        for stage, generation_id in made.items():
            job_ids[stage] = jobs.create(
                session,
                archive=archive,
                source=archive.uri,
                prefix="",
                model="lite",
                captioner="none",
                priority="normal",
                stage=stage,
                options={"dataset": parent_id} if stage == "locate" else {},
            )
            jobs.set_generation(session, job_ids[stage], generation_id)
        _regions(session, made, job_ids)
    _crops(engine, made["crops"])
    with unit_of_work(engine) as session:
        version_id = versions.begin(
            session,
            dataset_id,
            step="clean",
            phase="items",
            settings={"cleaning": CleaningSettings().as_json(), "generation_id": None},
            parent_id=parent_id,
            said_by="bench",
            job_ids=list(job_ids.values()),
        )
        for each in items.ranges(session, parent_id, BLOCK):
            items.copy(session, parent_id, version_id, each.first, each.last)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
    return version_id


def _parent(session: Session, dataset_id: int) -> int:
    version_id = versions.begin(
        session, dataset_id, step="build", phase="seal", settings={}, parent_id=None, said_by="bench"
    )
    session.execute(
        text(
            f"""INSERT INTO dataset_item (image_id, version_id, version)
                SELECT id, {version_id:d}, version FROM image ORDER BY id"""
        )
    )
    session.execute(
        text(
            f"""INSERT INTO dataset_label (image_id, version_id, tag_id, origins)
                SELECT id, {version_id:d}, 0, '{{{labels.ORIGINS[0]}}}' FROM image ORDER BY id"""
        )
    )
    versions.finish(session, version_id, "made up")
    return version_id


def _regions(session: Session, made: dict[str, int], job_ids: dict[str, int]) -> None:
    session.execute(
        text(
            """INSERT INTO localization (image_id, generation_id, job_id, version, tags, scores, boxes, is_cut)
               SELECT id, :generation_id, :job_id, version, '{}', '{}', '{}', false FROM image ORDER BY id"""
        ),
        {"generation_id": made["locate"], "job_id": job_ids["locate"]},
    )
    session.execute(
        text("INSERT INTO located_image (image_id, generation_id) SELECT id, :id FROM image ORDER BY id"),
        {"id": made["locate"]},
    )
    session.execute(
        text(
            """INSERT INTO cropping (image_id, generation_id, job_id, version, regions_xid)
               SELECT image_id, :generation_id, :job_id, '1', xid FROM located_image ORDER BY image_id"""
        ),
        {"generation_id": made["crops"], "job_id": job_ids["crops"]},
    )


def _crops(engine: Engine, generation_id: int) -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CENTRES, WIDTH)).astype(np.float32)
    with unit_of_work(engine) as session:
        image_ids = list(session.scalars(text("SELECT id FROM image ORDER BY id")))
        connection = driver_connection(session)
        copy = "COPY crop (image_id, generation_id, number, tag, box, tags, scores, v) FROM STDIN (FORMAT binary)"
        with connection.cursor() as cursor, cursor.copy(copy) as rows:
            rows.set_types(_COLUMNS)
            for start in range(0, len(image_ids), BLOCK):
                block = image_ids[start : start + BLOCK]
                near = centres[rng.integers(0, CENTRES, len(block) * EACH)]
                is_stray = rng.random(len(near)) < STRAYS
                vectors = (
                    np.where(is_stray[:, None], 0, near) + rng.standard_normal(near.shape).astype(np.float32) * 0.7
                )
                packed = pack_vectors(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
                for number, vector in enumerate(packed):
                    place = number % EACH + 1
                    box = [1000, 1000, 5000, 5000]
                    rows.write_row((block[number // EACH], generation_id, place, TAG, box, [TAG], [9000], vector))


if __name__ == "__main__":
    main()
