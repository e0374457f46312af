"""Readers for other scripts: their own recognition network, pulled; the rest as installed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ram_core.checkpoints import catalogue, published
from ram_core.errors import CheckpointError, UnknownModelError
from ram_core.localization import DETECTORS, SEGMENTERS
from ram_core.reading import READERS, load_reader, sensitive
from tests.lettering import pixels, sheet
from workers import messages

if TYPE_CHECKING:
    from ram_core.checkpoints.published import CatalogueEntry

KOREAN = "ppocr_v5_korean"


def test_every_reader_that_jobs_can_name_can_be_loaded_or_pulled() -> None:
    assert messages.READERS == READERS
    assert messages.MASKS == sensitive.KINDS
    assert (messages.DETECTORS, messages.SEGMENTERS) == (DETECTORS, SEGMENTERS)
    pulled = {entry.name for entry in catalogue()}
    assert pulled >= set(READERS[1:])
    assert READERS[0] not in pulled


def test_a_reader_that_was_not_pulled_says_how(tmp_path: Path) -> None:
    for models_dir in (tmp_path, None):
        with pytest.raises(CheckpointError, match=f"ramq models pull {KOREAN}"):
            load_reader(KOREAN, models_dir=models_dir)
    with pytest.raises(UnknownModelError, match="unknown reader 'klingon'; known readers: ppocr_v6, ppocr_v5_arabic"):
        load_reader("klingon")


def test_a_pulled_reader_reads_with_its_own_network_and_is_another_generation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network for Latin script stands in for the pulled one, which has the same form."""
    spec = find_spec("rapidocr")
    assert spec is not None
    (package,) = spec.submodule_search_locations or ()
    installed = Path(package) / "models" / "PP-OCRv6_rec_small.onnx"
    target = tmp_path / KOREAN / published.entry(KOREAN).files[0].name
    target.parent.mkdir()
    shutil.copy(installed, target)

    def of_this_size(entry: CatalogueEntry) -> CatalogueEntry:
        return replace(entry, files=tuple(replace(file, size_bytes=target.stat().st_size) for file in entry.files))

    monkeypatch.setattr(published, "_ENTRIES", tuple(map(of_this_size, published.catalogue())))
    reader = load_reader(KOREAN, models_dir=tmp_path)
    assert reader.spec.model == KOREAN
    assert reader.spec.fingerprint != load_reader().spec.fingerprint
    (found,) = reader.read([pixels(sheet(["GIVE WAY"], size=40))])
    assert [line.text for line in found.lines] == ["GIVE WAY"]
