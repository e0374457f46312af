"""`ramq up` gives each worker a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ramq.settings import Settings
from ramq.stack import Workers

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("visible", "device", "expected"),
    [
        ("0,1", "auto", ["cuda:0", "cuda:1", "cuda:0"]),
        ("0", "auto", [None, None, None]),
        ("", "auto", [None, None, None]),
        ("0,1", "cuda:1", [None, None, None]),
        ("0,1", "cpu", [None, None, None]),
    ],
)
def test_workers_take_the_gpus_in_turn_unless_one_was_chosen(
    visible: str, device: str, expected: list[str | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    workers = Workers(Settings(data_dir=tmp_path, device=device), "postgresql://x", "redis://x", 3)
    assert [workers._device_of(number).get("RAMQ_DEVICE") for number in range(3)] == expected
