"""What ``--watch`` tells of a job."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ramq.cli.following import _follow, _note, _rate


@pytest.mark.parametrize(
    ("rate", "eta", "is_listing", "expected"),
    [
        (0.0, None, True, "listing"),
        (0.0, None, False, ""),
        (12.5, None, True, "12.5 images/s, listing"),
        (12.5, 90.0, False, "12.5 images/s, 1 min 30 s left"),
        (12.5, None, False, "12.5 images/s"),
    ],
)
def test_how_fast_a_job_goes_is_told_with_what_is_left(
    rate: float, eta: float | None, is_listing: bool, expected: str
) -> None:
    job: Any = SimpleNamespace(images_per_second=rate, eta_seconds=eta, is_listing=is_listing)

    assert _rate(job) == expected


@pytest.mark.parametrize(
    ("alive", "says"),
    [
        ([], "starting a worker"),
        ([None], "loading the model lite"),
        (["ram"], "loading the model lite"),
        (["lite"], ""),
    ],
)
def test_what_goes_on_before_the_first_picture_is_told(alive: list[str | None], says: str) -> None:
    job: Any = SimpleNamespace(note=None, is_over=False, pending=0, is_listing=True, done=0, model="lite")
    workers: Any = [SimpleNamespace(model=model) for model in alive]

    assert _note(job, workers, is_lonely=False, is_starting=not alive) == says


def test_a_job_without_any_worker_says_how_to_start_one() -> None:
    job: Any = SimpleNamespace(note=None, is_over=False, pending=3, is_listing=False, done=0, model="lite")

    assert "start one with `ramq worker`" in _note(job, [], is_lonely=True, is_starting=False)


def test_ctrl_c_names_every_job_that_was_followed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_job_id: int) -> None:
        raise KeyboardInterrupt

    ramq: Any = SimpleNamespace(jobs=SimpleNamespace(get=interrupted, workers=list))
    with pytest.raises(KeyboardInterrupt):
        _follow(ramq, [18, 19], None, is_quiet=True)
    said = capsys.readouterr().err
    for job_id in (18, 19):
        assert f"`ramq job {job_id} --watch`, or end it with `ramq cancel {job_id}`" in said
    assert said.count("Stopped watching.") == 1
