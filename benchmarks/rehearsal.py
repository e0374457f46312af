"""An installation that is backed up and restored, and what must hold of it afterwards: for ``rehearse_restore``."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from ramq.embedded import embedded
from ramq.services.dataset_views import BuildRequest
from ramq.services.index import make_builder
from ramq.services.quotas import Whom
from ramq.settings import Settings
from storage.database import unit_of_work
from storage.results.packing import unpack_vectors
from storage.search.views import SearchQuery
from storage.tables import Base
from tests.services.checker import picture, prepared
from tests.services.command_line import run_here
from tests.services.fleet import check_counters, client_services, running_fleet, wait_for
from tests.services.null_worker import VECTOR_SIZE, expected

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from ramq.wiring import Services
    from storage.ledger.views import JobView
    from tests.services.fleet import Fleet

MOVING = frozenset(
    {
        # What jobs write: it is compared with the pictures.
        "archive", "image", "content", "former_content", "job", "job_request", "shard", "skip", "ignored", "naming",
        "failure", "record", "vector", "reading", "reading_index", "read_word", "localization", "located_image",
        "region_list", "metadata", "opening", "device", "feature", "feature_file", "near_copy", "near_search",
        "merged_image", "generation", "vocabulary", "tag",
        # What processes say of themselves and of the index.
        "worker", "pace", "turn", "day_use", "notice", "index_state", "erasure",
        "listing_range", "archive_change",
    }
)  # fmt: skip
"""Tables that change while nobody says anything. All others hold what people said, and must come back as they were."""

TIMEOUT_SECONDS = 1800.0


@dataclass
class Site:
    """An installation that runs: its services, as a person holds them, and its worker processes."""

    services: Services
    fleet: Fleet
    settings: Settings

    def command(self, *words: str) -> str:
        """Run ``ramq`` against it, in this process, and return what it printed. It must succeed."""
        done = run_here(words, self.fleet.environment)
        if done.returncode != 0:
            raise RuntimeError(f"ramq {' '.join(words)} failed: {done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def ended(self, job: JobView) -> JobView:
        """Wait for a job to be done."""
        view = wait_for(self.services, job.id, self.fleet, lambda view: view.is_over, TIMEOUT_SECONDS)
        if view.state != "done":
            raise RuntimeError(f"job {view.id} is {view.state}: {view.note}")
        return view


@contextmanager
def site(data_dir: Path, *, index: Path | None = None) -> Iterator[Site]:
    """Run an installation in a data folder, without workers yet. Nothing of it runs after the block.

    Args:
        data_dir: of the embedded services; what is there already is used.
        index: the folder of the index, if it is not in ``data_dir``.
    """
    with embedded(data_dir) as services:
        settings = Settings(
            data_dir=data_dir,
            database_url=services.database_url,
            broker_url=services.broker_url,
            index_url=None if index is None else index.as_uri(),
            user="rehearsal",
        )
        more: dict[str, Any] = {} if index is None else {"RAMQ_INDEX_URL": index.as_uri()}
        with running_fleet(settings, data_dir, **more) as fleet, client_services(settings) as client:
            yield Site(client, fleet, settings)


def fill(folder: Path, count: int, first: int = 0) -> dict[str, bytes]:
    """Make an archive of so many pictures, which differ from those with another ``first``. Return its files by key."""
    folder.mkdir()
    files = {f"{number:05}.png": picture(first + number) for number in range(count)}
    for key, body in files.items():
        (folder / key).write_bytes(body)
    return files


def recognise(place: Site, folder: Path, count: int) -> dict[str, bytes]:
    """Make an archive of so many pictures, and let workers recognise, read and locate it. Return its files by key."""
    files = fill(folder, count)
    services = place.services
    done = place.ended(services.jobs.create(str(folder)))
    services.generations.use(done.generation_id or 0, force=True)
    for stage in ("text", "locate"):
        for job in services.stages.start(stage, SearchQuery(archive=str(folder))):
            place.ended(job)
    return files


def say(services: Services, folder: Path) -> None:
    """Say what people say: corrections, keywords, users and their tokens, quotas, tag rules, a data set."""
    with unit_of_work(services.engine) as session:
        ids = list(
            session.scalars(
                text("SELECT image_id FROM record JOIN job ON job.id = job_id WHERE source LIKE '%' || :n ORDER BY 1"),
                {"n": folder.name},
            )
        )
    services.corrections.tag(ids[:20], add=["tag 1"], remove=["tag 2"], by="ann")
    act = services.keywords.begin(ids[5:40], add=["holiday", "to print"], by="ben")
    services.keywords.go_on(act.id)
    undone = services.keywords.begin(ids[:10], add=["wrong"], by="ben")
    services.keywords.go_on(undone.id)
    services.keywords.begin_undo(undone.id, by="ann")
    services.keywords.go_on(undone.id)
    services.accounts.add("ann", "admin")
    services.accounts.add("ben", "correct")
    services.accounts.create_token("ann")
    services.accounts.revoke(services.accounts.create_token("ben", note="lost").token.id)
    services.quotas.put("images_a_day", 1e6, Whom(user="ben"))
    services.policies.put("tag 3", "deny")
    version = services.datasets.build("birds", BuildRequest(sources=[str(folder)]), by="ann")
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while (state := services.datasets.get(version.id).state) != "done":
        if state != "running" or time.monotonic() > deadline:
            raise RuntimeError(f"the data set is {state}")
        time.sleep(0.1)


def said(services: Services) -> dict[str, str]:
    """Return the number of rows and a hash of each table that holds what people said."""
    found = {}
    with unit_of_work(services.engine) as session:
        for table in sorted(set(Base.metadata.tables) - MOVING):
            rows, digest = session.execute(
                text(
                    f"""SELECT count(*), md5(string_agg(row, ',' ORDER BY row))
                        FROM (SELECT md5((to_jsonb(t) - 'xid')::text) AS row FROM {table} AS t) AS hashed"""
                )
            ).one()
            found[table] = f"{rows}:{digest}"
    return found


def check_recognised(services: Services, job_id: int, files: Mapping[str, bytes], gone: Sequence[str] = ()) -> None:
    """Check that a job that is done has a record of each file, once, and that each says what its picture does.

    Args:
        services: of the job.
        job_id: the job.
        files: all that the job found, by key.
        gone: keys whose images were deleted afterwards.
    """
    view = services.jobs.get(job_id)
    if (view.state, view.listed, view.done, view.failed, view.pending) != ("done", len(files), len(files), 0, 0):
        raise RuntimeError(f"job {job_id} lost images: {view}")
    with unit_of_work(services.engine) as session:
        rows = session.execute(
            text(
                """SELECT key, tags, v FROM image JOIN record ON image_id = image.id
                   JOIN vector USING (image_id, generation_id) WHERE record.job_id = :id"""
            ),
            {"id": job_id},
        ).all()
    if sorted(row.key for row in rows) != sorted(set(files) - set(gone)):
        raise RuntimeError(f"job {job_id} has {len(rows)} records of {len(files)} files")
    for row in rows:
        wanted = expected(prepared(files[row.key]))
        vector = unpack_vectors(row.v, VECTOR_SIZE)[0]
        if row.tags != wanted.tag_ids.tolist() or abs(vector - wanted.vector).max() > 1e-3:
            raise RuntimeError(f"the record of {row.key} is not of its picture")
    if not gone:
        check_counters(services, job_id)


def check_index(services: Services) -> dict[int, int]:
    """Publish what is not published, verify every index, and return how many vectors each has."""
    builder = make_builder(services.settings, services.engine)
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while any(view.delta or view.vectors_indexed != view.vectors_stored for view in services.index.status()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"the index stays behind: {services.index.status()}")
        for number in services.index.generations():
            builder.publish_new(number, force=True)  # does nothing while a worker publishes
        time.sleep(0.1)
    for status in services.index.status():
        if found := builder.verify(status.generation_id):
            raise RuntimeError(f"the index differs from the database: {found}")
    return {view.generation_id: view.vectors_indexed for view in services.index.status()}
