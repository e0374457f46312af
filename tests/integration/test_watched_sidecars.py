"""Sidecars in a watched folder: an event of one reads it, and a picture finds the one that came before it."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from sqlalchemy import text

from storage.database import unit_of_work
from storage.errors import UsageError
from storage.objects.folder import FolderStore
from tests.integration.test_read_sidecars import beside, keys, told
from tests.metadata_archive import work, worker
from tests.same_picture import picture
from tests.watched import WISHES, Watched

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ramq.wiring import Services
    from storage.ledger.views import JobView
    from tests.plan import Plan
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services


@dataclass
class Working(Watched):
    """A watch whose jobs a worker does."""

    worker: Worker

    def do(self, fail: dict[str, str] | None = None) -> list[JobView]:
        assert not fail
        begun = [work(self.services, self.worker, self.services.jobs.get(job_id)) for job_id in self.step()]
        self.step()
        return begun


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for number, name in enumerate(("a.png", "b/c.png")):
        picture(root / name, number)
    beside(root / "a.png.xmp", rating="5", keywords=["mine"])
    return root


@pytest.fixture
def watched(services: Services, root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Working]:
    """Everything is listed and recorded."""

    def execute(statement: str, **values: Any) -> None:
        with unit_of_work(services.engine) as session:
            session.execute(text(statement), values)

    plan = cast("Plan", SimpleNamespace(ledger=SimpleNamespace(execute=execute)))
    with worker(services, monkeypatch) as made:
        added = services.watches.add(str(root), WISHES, settle_seconds=0.0)
        watched = Working(services, plan, added.watch.id, added.secret, made)
        watched.do()
        assert told(services, "a.png").rating == 5
        yield watched


def test_the_event_of_a_sidecar_reads_it_and_no_picture(
    watched: Working, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []
    fetch = FolderStore.fetch

    def counted(self: FolderStore, key: str, *more: Any) -> Any:
        fetched.append(key)
        return fetch(self, key, *more)

    monkeypatch.setattr(FolderStore, "fetch", counted)
    beside(root / "a.png.xmp", rating="3")
    beside(root / "b/c.xmp", rating="2", keywords=["new"])
    watched.look("a.png.xmp", "b/c.xmp", "b/none.xmp")
    assert sorted(fetched) == ["a.png.xmp", "b/c.xmp"]
    assert [told(watched.services, key).rating for key in ("a.png", "b/c.png")] == [3, 2]
    assert keys(watched.services, "keyword:new") == {"b/c.png"}
    watched.look("a.png.xmp")
    assert len(fetched) == 2
    (root / "a.png.xmp").unlink()
    watched.look("a.png.xmp")
    assert (told(watched.services, "a.png").rating, told(watched.services, "a.png").sidecar) == (None, None)


def test_a_picture_finds_the_sidecar_that_came_before_it(watched: Working, root: Path) -> None:
    beside(root / "new.xmp", rating="4")
    watched.look("new.xmp")
    picture(root / "new.png", 7)
    watched.look("new.png")
    assert told(watched.services, "new.png").rating == 4


@pytest.mark.parametrize("at_once", [True, False])
def test_a_picture_that_moves_with_its_sidecar_keeps_its_words(watched: Working, root: Path, *, at_once: bool) -> None:
    (root / "new").mkdir()
    for name in ("a.png", "a.png.xmp"):
        (root / name).rename(root / "new" / name)
    moved = ["a.png", "new/a.png", "a.png.xmp", "new/a.png.xmp"]
    for some in [moved] if at_once else [moved[:2], moved[2:]]:
        watched.look(*some)
    a = told(watched.services, "new/a.png")
    assert (a.rating, a.keywords, a.sidecar) == (5, ["mine"], "new/a.png.xmp")
    assert keys(watched.services, "keyword:mine") == {"new/a.png"}


def test_a_folder_that_moves_takes_its_sidecars_along(watched: Working, root: Path) -> None:
    beside(root / "b/c.png.xmp", rating="1")
    watched.look("b/c.png.xmp")
    (root / "b").rename(root / "d")
    watched.look("b/", "d/c.png", "d/c.png.xmp")
    assert (told(watched.services, "d/c.png").rating, told(watched.services, "d/c.png").sidecar) == (1, "d/c.png.xmp")
    with unit_of_work(watched.services.engine) as session:
        assert session.scalars(text("SELECT key FROM sidecar ORDER BY key")).all() == ["a.png.xmp", "d/c.png.xmp"]


def test_a_damaged_sidecar_keeps_what_was_known(watched: Working, root: Path) -> None:
    (root / "a.png.xmp").write_bytes(b"<x:xmpmeta")
    watched.look("a.png.xmp")
    assert told(watched.services, "a.png").rating == 5


def test_a_sidecar_that_a_rule_leaves_out_is_not_read(watched: Working, root: Path) -> None:
    (root / ".ramqignore").write_text("*.xmp\n")
    watched.look("a.png.xmp")
    assert told(watched.services, "a.png").rating is None
    with pytest.raises(UsageError):
        watched.services.images.find("a.png.xmp")
