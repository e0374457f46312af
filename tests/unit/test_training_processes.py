"""Pictures that kill their decoder are bad images of a training, no more."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from ram_core.training.data import BadImages
from ramq.services.training_data import DecodeInProcesses
from tests.services import marked_decoder
from tests.services.marked_decoder import KILLED, SEGFAULT, marked
from tests.training_data import write_official_set
from tests.unit.test_training_data import batches, same
from workers.pipeline import decoders

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def decode(monkeypatch: pytest.MonkeyPatch) -> Iterator[DecodeInProcesses]:
    monkeypatch.setattr(decoders, "CHILD", marked_decoder.__name__)
    pool = DecodeInProcesses(2, 50_000_000)
    yield pool
    pool.close()


def test_pictures_that_crash_their_decoder_are_listed_and_replaced(decode: DecodeInProcesses, tmp_path: Path) -> None:
    path = write_official_set(tmp_path, 12)
    for name, mark in (("0/4.jpg", SEGFAULT), ("0/7.jpg", KILLED)):
        picture = tmp_path / name
        picture.write_bytes(marked(picture.read_bytes(), mark))
    told = batches(path, workers=2, decode=decode, on_bad=BadImages(tmp_path / "run"))
    first = list(told.epoch(0, 0))
    assert [len(batch) for batch in first] == [6, 6]
    assert same(next(told.epoch(0, 1)), first[1])
    listed = [json.loads(line) for line in (tmp_path / "run" / "bad.jsonl").read_text().splitlines()]
    reasons = {each["name"]: each["reason"] for each in listed}
    assert reasons.keys() == {"0/4.jpg", "0/7.jpg"}
    assert "crashed the decoder (SIGSEGV)" in reasons["0/4.jpg"]
    assert "the decoder was killed" in reasons["0/7.jpg"]
