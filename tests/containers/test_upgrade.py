"""From the images of an earlier version to these: what was there stays, and the same searches find the same."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from storage import revision
from tests.containers import stand_ins
from tests.containers.composition import BUCKET, Composition, composition
from tests.containers.podman import podman, until
from tests.services.recognised import CAT, PHOTOGRAPHS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ARCHIVE = ("-c", "tar.umask=0022", "archive")
"""With the permissions of a clone: others would be other layers."""
WORKER = "localhost/ramq-previous:latest"
WEB = "localhost/ramq-previous-web:latest"
_MIGRATIONS_BACK = 5

_OVERRIDE = f"""services:
  migrate: {{ image: "{WORKER}", command: [ramq, db, upgrade] }}
  worker: {{ image: "{WORKER}" }}
  web: {{ image: "{WEB}" }}
"""

KEPT = {
    "keys": "SELECT id, key, version, size FROM image ORDER BY id",
    "tags": "SELECT image_id, generation_id, tags, scores, caption FROM record ORDER BY 1, 2",
    "vectors": "SELECT image_id, generation_id, md5(v) FROM vector ORDER BY 1, 2",
    "corrections": "SELECT image_id, name, is_present FROM correction ORDER BY 1, 2",
    "jobs": "SELECT id, state, done, failed FROM job ORDER BY id",
    "failures": "SELECT job_id, image_id, error_class FROM failure ORDER BY 1, 2",
}


def git(*words: str) -> bytes:
    return subprocess.run(["git", "-C", str(stand_ins.ROOT), *words], capture_output=True, check=True).stdout


def earlier() -> str:
    """The last release; without one, the newest commit whose schema is some migrations older than ours.

    It has all of our migrations up to its last one. Where two lines of work were merged, a commit of one may lack some.
    """
    tags = git("tag", "--list", "v*", "--merged", "HEAD", "--sort=-creatordate").decode().split()
    if tags:
        return tags[0]
    wanted = int(revision.head()) - _MIGRATIONS_BACK
    ours = _migrations("HEAD")
    for commit in git("log", "--format=%h", "--", "migrations/versions").decode().split():
        known = _migrations(commit)
        if known[-1] <= wanted and known == [number for number in ours if number <= known[-1]]:
            return commit
    pytest.skip("this clone has no history to build an earlier version from")


def _migrations(commit: str) -> list[int]:
    names = git("ls-tree", "--name-only", commit, "migrations/versions/").decode().split()
    return sorted(int(name.rpartition("/")[2][:4]) for name in names if name.endswith(".py"))


@pytest.fixture(scope="module")
def previous(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Images of an earlier version of ramq, on the packages of this one; its revision."""
    source = tmp_path_factory.mktemp("previous")
    commit = earlier()
    subprocess.run(["tar", "-x", "-C", str(source)], input=git(*ARCHIVE, commit), check=True)
    newest = max(path.name[:4] for path in (source / "migrations" / "versions").glob("0*.py"))
    # Another lock would be another installation of 6 GB. What is tested is the step between two versions of ramq.
    subprocess.run(
        ["cp", "-r", *(str(stand_ins.ROOT / name) for name in ("Dockerfile", ".dockerignore", "requirements")), source],
        check=True,
    )
    stand_ins.ours(source, worker=WORKER, web=WEB)
    yield newest
    for image in (WORKER, WEB):
        podman("rmi", "--force", image, check=False)


def facts(running: Composition) -> dict[str, list[tuple[str, ...]]]:
    return {name: running.sql(statement) for name, statement in KEPT.items()}


def ramq(running: Composition, *words: str) -> Any:
    """What a command answers in the web server's container."""
    return json.loads(running.container("web").exec("ramq", *words, "--json").stdout)


def keys(running: Composition, *words: str) -> list[str]:
    return sorted(item["key"] for item in ramq(running, "search", *words)["items"])


def test_an_upgrade_keeps_everything(previous: str, photographs: Path, tmp_path: Path) -> None:
    override = tmp_path / "previous.yml"
    override.write_text(_OVERRIDE)
    with composition(tmp_path, override) as running:
        # The earlier version does not wait for PostgreSQL, and not every engine waits for it.
        running.compose("up", "--detach", "--no-build", "postgres", "redis", "object-store")
        database = running.container("postgres")
        until(lambda: database.exec("pg_isready", "--dbname=ramq", check=False).returncode == 0, "PostgreSQL")
        running.up()
        assert running.sql("SELECT version_num FROM alembic_version") == [(previous,)]
        running.put((path.relative_to(photographs).as_posix(), path.read_bytes()) for path in photographs.rglob("*.*"))
        running.container("web").exec("ramq", "enqueue", f"s3://{BUCKET}")
        until(
            lambda: running.sql("SELECT state FROM job") == [("done",)], "the job", seconds=300, evidence=running.logs
        )
        running.container("web").exec("ramq", "tag", "coffee.png", "--add", CAT)
        before = facts(running)
        assert len(before["tags"]) == len(before["vectors"]) == PHOTOGRAPHS + 1
        found = keys(running, CAT)
        assert found == ["chelsea.png", "coffee.png"]

        running.compose("stop", "web", "worker")
        running.overrides.clear()
        running.up()
        assert running.sql("SELECT version_num FROM alembic_version") == [(revision.head(),)]
        assert facts(running) == before
        assert keys(running, CAT) == found
        again = running.recognise()
        # Those that were recorded, and the two files that are no pictures.
        assert (again.state, again.skipped, again.done, again.failed) == ("done", PHOTOGRAPHS + 3, 0, 0)
        with running.client() as client:
            assert client.image(int(before["keys"][0][0])).key == before["keys"][0][1]
