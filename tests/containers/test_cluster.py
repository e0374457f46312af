"""A cluster of containers under a few faults: the short form of ``benchmarks.chaos_cluster``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.containers.chaos.cluster import made_images
from tests.containers.chaos.run import Plan, run_plan

if TYPE_CHECKING:
    from pathlib import Path

_FAULTS = (
    "worker killed",
    "worker paused past its lease",
    "worker reaches the database, no answer comes",
    "PostgreSQL fails over to its standby",
    "Redis killed, started empty",
    "store answers half of the requests with 503",
)


def test_nothing_is_lost_or_doubled_while_machines_fail(images: None, tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)  # machines run as another user
    plan = Plan(500, seed=1, faults=len(_FAULTS), between=(5.0, 8.0), only=_FAULTS)
    figures = run_plan(tmp_path, made_images(tmp_path), plan)
    assert figures["keys"] == 500
    assert figures["faults"] == len(_FAULTS)
    assert figures["searches_answered"] > 0
