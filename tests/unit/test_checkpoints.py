"""Pulling, checking and finding checkpoints, and the command line on top."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from ram_core import checkpoints
from ram_core.checkpoints import CatalogueEntry, FileState, Listener, RemoteFile, published
from ram_core.checkpoints.published import mirrored
from ram_core.errors import CheckpointError, UnknownModelError
from ram_core.modeling.tiny import write_tiny_models
from ram_core.registry import load_model
from ramq.cli import models as cli
from storage.errors import RamqError, ServiceUnavailableError, UsageError
from tests.services.broken_http import BrokenHTTP, Hosted
from tests.toy_checkpoint import BODY, QUICK, SHA, kept, pull_toy


def test_the_first_pull_of_an_unpinned_file_says_and_keeps_the_hash_it_saw(
    server: BrokenHTTP, tmp_path: Path, unpinned: RemoteFile
) -> None:
    server.files["/a/weights.pth"] = Hosted(BODY)
    (status,) = pull_toy(server, tmp_path)
    assert status.detail == f"no hash is published; recorded the current one, {SHA}, in weights.pth.sha256"
    assert not status.pinned
    assert f"{SHA}  weights.pth\n" in (tmp_path / "toy/weights.pth.sha256").read_text()
    subprocess.run(["sha256sum", "--check", "--quiet", "weights.pth.sha256"], cwd=tmp_path / "toy", check=True)
    assert [each.state for each in checkpoints.verify("toy", tmp_path)] == [FileState.OK]


def test_a_recorded_hash_holds_for_later_verifications_and_pulls(
    server: BrokenHTTP, tmp_path: Path, unpinned: RemoteFile
) -> None:
    server.files["/a/weights.pth"] = Hosted(BODY)
    pull_toy(server, tmp_path)
    target = tmp_path / "toy/weights.pth"
    target.write_bytes(bytes(len(BODY)))
    assert [each.state for each in checkpoints.verify("toy", tmp_path)] == [FileState.DAMAGED]
    server.files["/a/weights.pth"] = Hosted(bytes(len(BODY)))
    with pytest.raises(CheckpointError, match=r"not the one recorded earlier.*delete .*weights.pth.sha256"):
        pull_toy(server, tmp_path)
    assert not target.exists()


def test_a_damaged_file_is_fetched_again(server: BrokenHTTP, tmp_path: Path, pinned: RemoteFile) -> None:
    server.files["/a/weights.pth"] = Hosted(BODY)
    pull_toy(server, tmp_path)
    (tmp_path / "toy/weights.pth").write_bytes(BODY[:-1] + b"?")
    assert pull_toy(server, tmp_path)[0].state is FileState.OK
    assert (tmp_path / "toy/weights.pth").read_bytes() == BODY
    assert kept(tmp_path) == {"weights.pth"}


def test_a_file_that_is_there_and_right_is_not_fetched_again(
    server: BrokenHTTP, tmp_path: Path, pinned: RemoteFile
) -> None:
    server.files["/a/weights.pth"] = Hosted(BODY)
    pull_toy(server, tmp_path)
    server.requests.clear()
    assert pull_toy(server, tmp_path)[0].state is FileState.OK
    assert server.requests == []


def test_two_pulls_at_once_fetch_the_file_once(server: BrokenHTTP, tmp_path: Path, pinned: RemoteFile) -> None:
    server.files["/a/weights.pth"] = Hosted(BODY)
    started, waiting = threading.Event(), threading.Event()
    failures: list[BaseException] = []

    def hold(_name: str, done: int, _total: int | None) -> None:
        if done:
            started.set()
            assert waiting.wait(10)

    def pull(listener: Listener) -> None:
        try:
            pull_toy(server, tmp_path, listener=listener)
        except BaseException as error:  # noqa: BLE001  (shown by the assertion below)
            failures.append(error)

    first = threading.Thread(target=pull, args=(Listener(progress=hold),))
    second = threading.Thread(target=pull, args=(Listener(note=lambda _line: waiting.set()),))
    first.start()
    assert started.wait(10)
    second.start()
    first.join()
    second.join()
    assert failures == []
    assert len(server.requests) == 1
    assert (tmp_path / "toy/weights.pth").read_bytes() == BODY


def test_files_come_from_a_folder_where_there_is_no_network(tmp_path: Path, pinned: RemoteFile) -> None:
    source = tmp_path / "usb"
    source.mkdir()
    (source / "weights.pth").write_bytes(BODY)
    (status,) = checkpoints.pull("toy", tmp_path / "models", from_dir=source)
    assert status.state is FileState.OK
    copied = tmp_path / "models/toy/weights.pth"
    assert copied.read_bytes() == BODY
    assert not os.path.samestat(copied.stat(), (source / "weights.pth").stat())


def test_a_hash_recorded_beside_the_copied_file_is_honoured(tmp_path: Path, unpinned: RemoteFile) -> None:
    source = tmp_path / "usb/toy"
    source.mkdir(parents=True)
    (source / "weights.pth").write_bytes(bytes(len(BODY)))
    (source / "weights.pth.sha256").write_text(f"{SHA}  weights.pth\n")
    with pytest.raises(CheckpointError, match="not the one recorded earlier"):
        checkpoints.pull("toy", tmp_path / "models", from_dir=tmp_path / "usb")
    assert kept(tmp_path / "models") == set()


def test_a_folder_that_lacks_a_file_is_named(tmp_path: Path, pinned: RemoteFile) -> None:
    with pytest.raises(CheckpointError, match=r"has no weights.pth; copy it there from https://models.example"):
        checkpoints.pull("toy", tmp_path / "models", from_dir=tmp_path)


def test_a_damaged_copy_is_refused(tmp_path: Path, pinned: RemoteFile) -> None:
    (tmp_path / "weights.pth").write_bytes(bytes(len(BODY)))
    with pytest.raises(CheckpointError, match="nothing was kept"):
        checkpoints.pull("toy", tmp_path / "models", from_dir=tmp_path)
    assert kept(tmp_path / "models") == set()


def test_a_file_that_is_not_there_is_found_with_the_command_that_fetches_it(tmp_path: Path, pinned: RemoteFile) -> None:
    with pytest.raises(CheckpointError, match="run `ramq models pull toy`"):
        checkpoints.find("toy", tmp_path)
    assert [each.state for each in checkpoints.verify("toy", tmp_path)] == [FileState.MISSING]


def test_an_unknown_model_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match="lite, ram, ram_plus, tag2text, clip-vit-base-patch16"):
        checkpoints.pull("rampage", tmp_path)


def test_lite_needs_no_pull(tmp_path: Path) -> None:
    assert checkpoints.pull("lite", tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_every_published_file_has_an_address_a_size_and_a_well_formed_hash() -> None:
    files = [file for each in checkpoints.catalogue() for file in each.files]
    assert all(urllib.request.urlparse(file.url).scheme == "https" for file in files)
    assert all(file.sha256 is None or (len(file.sha256) == 64 and int(file.sha256, 16)) for file in files)
    assert all(file.url.endswith("/" + file.name) and file.size_bytes > 0 for file in files)
    for each in checkpoints.catalogue():
        assert len({file.name for file in each.files}) == len(each.files)
        assert all(checkpoints.entry(name) for name in each.companions)


def test_a_mirror_keeps_the_path_of_the_published_address() -> None:
    url = checkpoints.entry("ram_plus").file("ram_plus_swin_large_14m.pth").url
    assert mirrored(url, "https://mirror.example/hub/").startswith(
        "https://mirror.example/hub/xinyu1205/recognize-anything-plus-model/resolve/"
    )
    assert mirrored(url, None) == url


def test_the_published_lists_have_the_catalogued_sizes_and_hashes(request: pytest.FixtureRequest) -> None:
    shared = Path(os.environ.get("RAMQ_SHARED_DIR", request.config.rootpath.parent / "shared")) / "ram"
    if not shared.is_dir():
        pytest.skip("the official lists are not here; name their folder with RAMQ_SHARED_DIR")
    lists = {file.name: file for each in checkpoints.catalogue() for file in each.files if "tag_list" in file.name}
    assert len(lists) == 4
    for name, file in lists.items():
        content = (shared / name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file.size_bytes, file.sha256)


def test_importing_checkpoints_needs_no_torch() -> None:
    code = "import sys, ram_core.checkpoints; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def _cli(*arguments: str | Path) -> Any:
    return CliRunner().invoke(cli.app, [str(each) for each in arguments])


def test_the_command_line_pulls_from_a_mirror_and_verifies(
    server: BrokenHTTP, tmp_path: Path, unpinned: RemoteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["/a/weights.pth"] = Hosted(BODY)
    monkeypatch.setenv("RAMQ_MODELS_MIRROR", server.url)
    pulled = _cli("pull", "toy", "--models-dir", tmp_path)
    assert pulled.exit_code == 0
    assert pulled.stdout.strip() == str(tmp_path / "toy")
    assert SHA in pulled.stderr.replace("\n", "")
    verified = _cli("verify", "toy", "--models-dir", tmp_path, "--json")
    assert verified.exit_code == 0
    assert [each["state"] for each in json.loads(verified.stdout)] == ["ok"]
    assert _cli("path", "toy", "--models-dir", tmp_path).stdout.strip() == str(tmp_path / "toy")


def test_the_command_line_lists_what_is_here_and_what_is_not(tmp_path: Path) -> None:
    listed = json.loads(_cli("list", "--models-dir", tmp_path, "--json").stdout)
    states = {each["name"]: each["state"] for each in listed}
    assert states["lite"] == "installed"
    assert states["ram_plus"] == "not pulled"


def test_verifying_what_is_not_there_ends_with_one(tmp_path: Path) -> None:
    assert _cli("verify", "ram_plus", "--models-dir", tmp_path).exit_code == 1


def test_errors_reach_the_command_line_in_its_own_words(
    tmp_path: Path, pinned: RemoteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(_cli("pull", "rampage", "--models-dir", tmp_path).exception, UsageError)
    assert isinstance(_cli("path", "toy", "--models-dir", tmp_path).exception, RamqError)
    monkeypatch.setattr("ram_core.checkpoints.store.Patience", lambda: QUICK)
    refused = _cli("pull", "toy", "--models-dir", tmp_path, "--mirror", "http://127.0.0.1:9")
    assert isinstance(refused.exception, ServiceUnavailableError)


def test_a_model_loads_from_a_folder_that_was_pulled_over_a_bad_connection(
    server: BrokenHTTP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_tiny_models("ram_plus", tmp_path / "published").parent
    files = []
    for path in sorted(source.iterdir()):
        content = path.read_bytes()
        server.files[f"/hub/{path.name}"] = Hosted(content, break_after=[len(content) // 3, len(content) // 3])
        url = f"https://models.example/hub/{path.name}"
        files.append(RemoteFile(path.name, url, len(content), hashlib.sha256(content).hexdigest()))
    monkeypatch.setattr(published, "_ENTRIES", (CatalogueEntry("ram_plus", "", tuple(files)),))
    models = tmp_path / "models"
    with pytest.raises(CheckpointError, match="ramq models pull ram_plus"):
        load_model("ram_plus", models_dir=models)
    checkpoints.pull("ram_plus", models, mirror=server.url, patience=QUICK)
    assert len(server.requests) == 3 * len(files)
    model = load_model("ram_plus", models_dir=models)
    (recognition,) = model.recognize([Image.new("RGB", (64, 48), "green")])
    assert recognition.vector.shape == (model.spec.vector_size,)
