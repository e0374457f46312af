"""``docker compose up -d``: images are tagged over the object store and found, by as many workers as are wanted."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from storage import revision
from tests.containers.composition import BUCKET
from tests.containers.podman import until
from tests.containers.stand_ins import ROOT
from tests.services.checker import picture
from tests.services.recognised import CAT, PHOTOGRAPHS

if TYPE_CHECKING:
    from pathlib import Path

    from ramq.schemas.jobs import JobOut
    from tests.containers.composition import Composition

WORKERS = 3
PICTURES = 1200
"""Of which 256 are a shard."""


@pytest.fixture(scope="module")
def job(running: Composition, photographs: Path) -> JobOut:
    """Over the photographs, and two files that are none."""
    running.put((path.relative_to(photographs).as_posix(), path.read_bytes()) for path in photographs.rglob("*.*"))
    return running.recognise()


def test_the_schema_is_there_before_anything_else_and_its_container_ended_well(running: Composition) -> None:
    migrate = running.container("migrate")
    until(lambda: migrate.state == "exited", "the end of migrate", evidence=running.logs)
    assert migrate.exit_code == 0
    assert running.sql("SELECT version_num FROM alembic_version") == [(revision.head(),)]


def test_a_job_over_the_object_store_ends(running: Composition, job: JobOut) -> None:
    assert (job.state, job.done, job.failed) == ("done", PHOTOGRAPHS + 1, 2)
    assert running.sql("SELECT count(*) FROM record") == [(str(PHOTOGRAPHS + 1),)]


def test_search_finds_what_workers_tagged(running: Composition, job: JobOut) -> None:
    with running.client() as ramq:
        assert [hit.key for hit in ramq.search(tags=[CAT])] == ["chelsea.png"]
        hit = next(ramq.search("a cat"))
        assert hit.key == "chelsea.png"
        assert ramq.thumbnail(hit.image_id).startswith((b"\xff\xd8", b"RIFF", b"\x89PNG"))


def test_commands_work_inside_the_containers(running: Composition, job: JobOut) -> None:
    listed = json.loads(running.container("web").exec("ramq", "jobs", "--json").stdout)["items"]
    assert job.id in {each["id"] for each in listed}
    doctor = json.loads(running.container("worker").exec("ramq", "doctor", "--json", check=False).stdout)["checks"]
    assert [check for check in doctor if check["state"] == "fault"] == []


def health_check(target: str) -> list[str]:
    """The command of a target's HEALTHCHECK. Podman's own format of images keeps none, so the Dockerfile is read."""
    dockerfile = (ROOT / "Dockerfile").read_text().replace("\\\n", "")
    stage = re.search(rf"^FROM base AS {target}\n(.*?)(?=^FROM|\Z)", dockerfile, re.MULTILINE | re.DOTALL)
    assert stage is not None
    found = re.search(r"^HEALTHCHECK .*? CMD (.*)$", stage[1], re.MULTILINE)
    assert found is not None
    return json.loads(found[1]) if found[1].startswith("[") else ["sh", "-c", found[1]]


def test_the_health_checks_of_our_images_tell_who_is_well(running: Composition, job: JobOut) -> None:
    """Podman runs no health checks without systemd, so they are run here."""
    for service in ("web", "worker"):
        done = running.container(service).exec(*health_check(service), check=False)
        assert done.returncode == 0, done
    elsewhere = running.container("web").exec(*health_check("worker"), check=False)
    assert elsewhere.returncode == 1, "no worker has its heartbeat from this container"


def test_more_workers_share_the_work(running: Composition, job: JobOut) -> None:
    running.sql("CREATE TABLE finished (shard_id bigint, owner text)")
    running.sql(
        """CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               INSERT INTO finished VALUES (OLD.id, OLD.owner); RETURN NEW; END $$"""
    )
    running.sql(
        """CREATE TRIGGER noted AFTER UPDATE ON shard FOR EACH ROW
               WHEN (OLD.state = 'leased' AND NEW.state = 'done') EXECUTE FUNCTION note()"""
    )
    running.up("--scale", f"worker={WORKERS}")
    until(
        lambda: (
            running.sql("SELECT count(*) FROM worker WHERE heartbeat_at > now() - interval '10 s'") == [(str(WORKERS),)]
        ),
        f"{WORKERS} workers",
        evidence=running.logs,
    )
    running.put((f"many/{number:05}.png", picture(number)) for number in range(PICTURES))
    done = running.recognise(f"s3://{BUCKET}/many")
    assert (done.state, done.done, done.failed) == ("done", PICTURES, 0)
    by_worker = dict(running.sql("SELECT owner, count(*) FROM finished GROUP BY owner"))
    assert len(by_worker) == WORKERS, by_worker
    shards = running.sql(f"SELECT count(*) FROM shard WHERE job_id = {done.id} AND state = 'done'")
    assert shards == [(str(sum(map(int, by_worker.values()))),)], "each was finished once"
    hosts = dict(running.sql("SELECT id, host FROM worker"))
    assert len({hosts[owner] for owner in by_worker}) == WORKERS, "each is a machine of its own"
    assert running.sql("SELECT count(*) FROM image WHERE key LIKE 'many/%'") == [(str(PICTURES),)]
