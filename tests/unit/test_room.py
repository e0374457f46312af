"""Whether a further model fits into memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import torch

from workers.pipeline import room
from workers.pipeline.room import has_room

if TYPE_CHECKING:
    from pathlib import Path

GB = 1_000_000_000


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "ram_plus"
    folder.mkdir()
    with (folder / "ram_plus_swin_large_14m.pth").open("wb") as file:
        file.truncate(3 * GB)  # a hole: it takes no space
    (folder / "ram_tag_list.txt").write_text("dog")
    return tmp_path


@pytest.mark.parametrize(("free", "fits"), [(11, True), (9, False)])
def test_a_quarter_of_the_host_stays_free(
    free: int, models: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, fits: bool
) -> None:
    monkeypatch.setattr(room, "_CGROUP", tmp_path)
    memory = SimpleNamespace(available=free * GB, total=16 * GB)
    monkeypatch.setattr(room.psutil, "virtual_memory", lambda: memory)
    assert has_room("ram_plus", models, "cpu") is fits
    assert has_room("lite", models, "cpu")


def test_a_container_has_its_own_limit(models: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(room, "_CGROUP", tmp_path)
    memory = SimpleNamespace(available=100 * GB, total=128 * GB)
    monkeypatch.setattr(room.psutil, "virtual_memory", lambda: memory)
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text(f"{GB}\n")
    assert has_room("ram_plus", models, "cpu")
    (tmp_path / "memory.max").write_text(f"{8 * GB}\n")
    assert not has_room("ram_plus", models, "cpu")
    (tmp_path / "memory.max").write_text(f"{16 * GB}\n")
    (tmp_path / "memory.current").write_text(f"{12 * GB}\n")
    assert not has_room("ram_plus", models, "cpu")
    (tmp_path / "memory.stat").write_text(f"anon {GB}\ninactive_file {8 * GB}\n")  # read images
    assert has_room("ram_plus", models, "cpu")


def test_a_file_that_is_being_replaced_counts_nothing(
    models: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(room, "_CGROUP", tmp_path)
    memory = SimpleNamespace(available=11 * GB, total=16 * GB)
    monkeypatch.setattr(room.psutil, "virtual_memory", lambda: memory)
    (models / "ram_plus" / "gone.pth").symlink_to(models / "nowhere")  # listed, and then not there
    assert has_room("ram_plus", models, "cpu")


def test_memory_that_torch_keeps_for_itself_counts_as_free(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (4 * GB, 24 * GB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 12 * GB)
    allocated = [3 * GB]
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: allocated[0])
    assert has_room("ram_plus", models, "cuda:0")  # 13 GB are free, 7 of them after loading
    allocated[0] = 11 * GB
    assert not has_room("ram_plus", models, "cuda:0")
