"""Errors of opening a place of an index name the setting that is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ramq.services.index import make_builder, make_index, make_place
from ramq.services.shadow import make_shadow_builder, make_shadow_index, place_of
from ramq.settings import Settings
from storage.database import make_engine
from storage.errors import RamqError, ServiceUnavailableError, UsageError
from storage.index.file_storage import BucketStorage, FolderStorage, open_storage
from storage.index.milvus.client import Milvus

if TYPE_CHECKING:
    from pathlib import Path

INDEX, SHADOW = "RAMQ_INDEX_URL", "RAMQ_SHADOW_INDEX_URL"

WRONG = [
    "ftp://host/x",
    "file://host/x",
    "s3:///x",
    "file://[host/x",
    "milvus+http://",
    "milvus+http://host:port/x",
    "milvus+http://host:70000",
    "milvus+http://[host",
    "milvus+ftp://host",
]


def settings_for(tmp_path: Path, **changes: object) -> Settings:
    return Settings(data_dir=tmp_path, **changes)  # type: ignore[arg-type]  # checked by pydantic


@pytest.mark.parametrize("url", WRONG)
def test_a_wrong_address_is_said_with_the_setting_that_has_it(tmp_path: Path, url: str) -> None:
    engine = make_engine("postgresql+psycopg://127.0.0.1:1/none")  # never asked
    index, shadow = settings_for(tmp_path, index_url=url), settings_for(tmp_path, shadow_index_url=url)
    makers = [
        (INDEX, lambda: make_index(index)),
        (INDEX, lambda: make_builder(index, engine)),
        (SHADOW, lambda: make_shadow_index(shadow)),
        (SHADOW, lambda: make_shadow_builder(shadow, engine)),
    ]
    for setting, make in makers:
        with pytest.raises(UsageError, match=f"{setting} must be ") as raised:
            make()
        assert "/shadow" not in str(raised.value)  # the address is said as it was set


@pytest.mark.parametrize(("named", "setting"), [("index_url", INDEX), ("shadow_index_url", SHADOW)])
def test_a_wrong_address_of_the_files_beside_milvus_is_said_too(tmp_path: Path, named: str, setting: str) -> None:
    settings = settings_for(tmp_path, **{named: "milvus+http://host:19530/x?files=ftp://host/files"})
    with pytest.raises(UsageError, match=f"ftp://host/files: `files` in {setting} must be file:///folder"):
        (make_place if setting == INDEX else place_of)(settings)


def test_a_place_that_does_not_answer_is_said_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("no folder")
    places = [
        open_storage((tmp_path / "taken").as_uri(), "shadow", setting=SHADOW),
        open_storage("s3://bucket/prefix", "shadow", endpoint_url="http://127.0.0.1:9", setting=SHADOW),
    ]
    for place in places:
        with pytest.raises(ServiceUnavailableError, match=SHADOW):
            place.names("")
    for url in ("milvus+http://127.0.0.1:9", "milvus+http://ramq:password@127.0.0.1:9"):
        with pytest.raises(ServiceUnavailableError, match=SHADOW):
            Milvus(url, setting=SHADOW).check()


def test_a_missing_package_is_said_with_the_setting_that_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pymilvus", None)
    with pytest.raises(RamqError, match=rf"{SHADOW} names Milvus.*pip install 'ramq\[milvus\]'"):
        Milvus("milvus+http://127.0.0.1:9", setting=SHADOW).check()


def test_a_shadow_is_a_folder_of_its_own_below_its_place(tmp_path: Path) -> None:
    folder = place_of(settings_for(tmp_path, shadow_index_url=f"{tmp_path.as_uri()}/"))
    bucket = place_of(settings_for(tmp_path, shadow_index_url="s3://bucket"))
    assert isinstance(folder, FolderStorage)
    assert isinstance(bucket, BucketStorage)
    assert (folder.root, bucket.prefix) == (tmp_path / "shadow", "shadow")
