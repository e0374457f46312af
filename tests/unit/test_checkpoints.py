"""Pulling, checking and finding checkpoints, against a real server that misbehaves."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from ram_core import checkpoints
from ram_core.checkpoints import CatalogueEntry, FileState, Listener, Patience, RemoteFile, UnreachableError, published
from ram_core.checkpoints import download as download_module
from ram_core.checkpoints.published import mirrored
from ram_core.errors import CheckpointError, UnknownModelError
from ramq.cli import models as cli
from ramq.kit.errors import RamqError, ServiceUnavailableError, UsageError
from tests.services.broken_http import BrokenHTTP, Hosted, broken_http

if TYPE_CHECKING:
    from collections.abc import Iterator

BODY = random.Random(1).randbytes(300_000)
SHA = hashlib.sha256(BODY).hexdigest()
QUICK = Patience(attempts=4, first_delay_seconds=0.001, longest_delay_seconds=0.01, timeout_seconds=5)


@pytest.fixture
def server() -> Iterator[BrokenHTTP]:
    with broken_http() as running:
        yield running


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> RemoteFile:
    return _offer(monkeypatch, SHA)


@pytest.fixture
def unpinned(monkeypatch: pytest.MonkeyPatch) -> RemoteFile:
    return _offer(monkeypatch, None)


def _offer(monkeypatch: pytest.MonkeyPatch, sha256: str | None) -> RemoteFile:
    file = RemoteFile("weights.pth", "https://models.example/a/weights.pth", len(BODY), sha256)
    _replace_catalogue(monkeypatch, file)
    return file


def _replace_catalogue(monkeypatch: pytest.MonkeyPatch, *files: RemoteFile) -> None:
    monkeypatch.setattr(published, "_ENTRIES", (CatalogueEntry("toy", "a toy", files),))


def _pull(server: BrokenHTTP, tmp_path: Path, **options: Any) -> list[checkpoints.FileStatus]:
    return checkpoints.pull("toy", tmp_path, mirror=server.url, patience=QUICK, **options)


def _kept(tmp_path: Path) -> set[str]:
    return {each.name for each in (tmp_path / "toy").iterdir()} - {".pull.lock"}


def test_a_pulled_file_is_whole_and_leaves_nothing_beside_it(
    server: BrokenHTTP, tmp_path: Path, pinned: RemoteFile
) -> None:
    server.files["/a/weights.pth"] = Hosted(BODY)
    (status,) = _pull(server, tmp_path)
    assert status.state is FileState.OK
    assert status.pinned
    assert (tmp_path / "toy/weights.pth").read_bytes() == BODY
    assert _kept(tmp_path) == {"weights.pth"}
    assert checkpoints.find("toy", tmp_path) == {"weights.pth": tmp_path / "toy/weights.pth"}


def test_a_connection_that_breaks_several_times_is_continued_where_it_broke(
    server: BrokenHTTP, tmp_path: Path, pinned: RemoteFile
) -> None:
    server.files["/a/weights.pth"] = Hosted(BODY, break_after=[100_000, 50_000, 1, 7])
    notes: list[str] = []
    _pull(server, tmp_path, listener=Listener(note=notes.append))
    assert (tmp_path / "toy/weights.pth").read_bytes() == BODY
    assert [each.range for each in server.requests] == [
        None, "bytes=100000-", "bytes=150000-", "bytes=150001-", "bytes=150008-",
    ]  # fmt: skip
    assert {each.if_range for each in server.requests[1:]} == {'"one"'}
    assert len(notes) == 4


def test_more_breaks_than_attempts_are_survived_while_each_try_brings_something(
    server: BrokenHTTP, tmp_path: Path, pinned: RemoteFile
) -> None:
    server.files["/a/weights.pth"] = Hosted(BODY, break_after=[20_000] * 12)
    _pull(server, tmp_path)
    assert len(server.requests) == 13
    assert (tmp_path / "toy/weights.pth").read_bytes() == BODY


def test_a_later_pull_continues_what_an_earlier_one_left(
    server: BrokenHTTP, tmp_path: Path, pinned: RemoteFile
) -> None:
    hosted = server.files["/a/weights.pth"] = Hosted(BODY, break_after=[100_000], statuses=[])
    hosted.break_after += [0] * 10
    with pytest.raises(CheckpointError, match=r"weights.pth.*100,000 bytes are kept, run the same command again"):
        _pull(server, tmp_path)
    (status,) = checkpoints.status("toy", tmp_path)
    assert (status.state, status.size_bytes) == (FileState.PARTIAL, 100_000)
    hosted.break_after.clear()
    server.requests.clear()
    _pull(server, tmp_path)
    assert [each.range for each in server.requests] == ["bytes=100000-"]
    assert (tmp_path / "toy/weights.pth").read_bytes() == BODY


def test_a_server_that_ignores_ranges_is_read_from_the_beginning(
    server: BrokenHTTP, tmp_path: Path, pinned: RemoteFile
) -> None:
    server.files["/a/weights.pth"] = Hosted(BODY, break_after=[100_000], ranges=False)
    _pull(server, tmp_path)
    assert len(server.requests) == 2
    assert (tmp_path / "toy/weights.pth").read_bytes() == BODY


def test_a_file_that_changes_between_two_tries_is_not_mixed(
    server: BrokenHTTP, tmp_path: Path, unpinned: RemoteFile
) -> None:
    hosted = server.files["/a/weights.pth"] = Hosted(bytes(len(BODY)), break_after=[100_000])

    def swap(_line: str) -> None:
        hosted.body, hosted.etag = BODY, '"two"'

    _pull(server, tmp_path, listener=Listener(note=swap))
    assert (tmp_path / "toy/weights.pth").read_bytes() == BODY


def test_a_server_that_overlooks_if_range_cannot_mix_two_versions(
    server: BrokenHTTP, tmp_path: Path, unpinned: RemoteFile
) -> None:
    hosted = server.files["/a/weights.pth"] = Hosted(bytes(len(BODY)), break_after=[100_000])
    hosted.headers["X-Served-By"] = "cache"

    def swap(_line: str) -> None:
        # The old tag stays acceptable as a condition, but the answer carries the new one.
        hosted.body, hosted.last_modified, hosted.etag = BODY, '"one"', '"two"'

    _pull(server, tmp_path, listener=Listener(note=swap))
    assert (tmp_path / "toy/weights.pth").read_bytes() == BODY


def test_without_a_validator_an_unpinned_file_is_never_continued(
    server: BrokenHTTP, tmp_path: Path, unpinned: RemoteFile
) -> None:
    server.files["/a/weights.pth"] = Hosted(BODY, etag=None, break_after=[100_000])
    _pull(server, tmp_path)
    assert [each.range for each in server.requests] == [None, None]


def test_a_weak_tag_does_not_vouch_for_a_range(server: BrokenHTTP, tmp_path: Path, unpinned: RemoteFile) -> None:
    server.files["/a/weights.pth"] = Hosted(BODY, etag='W/"one"', break_after=[100_000])
    _pull(server, tmp_path)
    assert [each.range for each in server.requests] == [None, None]


def test_a_date_vouches_for_a_range_where_there_is_no_tag(
    server: BrokenHTTP, tmp_path: Path, unpinned: RemoteFile
) -> None:
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    server.files["/a/weights.pth"] = Hosted(BODY, etag=None, last_modified=date, break_after=[100_000])
    _pull(server, tmp_path)
    assert [(each.range, each.if_range) for each in server.requests] == [(None, None), ("bytes=100000-", date)]


def test_a_continued_download_that_does_not_add_up_is_fetched_once_more(
    server: BrokenHTTP, tmp_path: Path, pinned: RemoteFile
) -> None:
    hosted = server.files["/a/weights.pth"] = Hosted(bytes(len(BODY)), etag=None, break_after=[100_000])

    def swap(_line: str) -> None:
        hosted.body = BODY

    _pull(server, tmp_path, listener=Listener(note=swap))
    assert [each.range for each in server.requests] == [None, "bytes=100000-", None]
    assert (tmp_path / "toy/weights.pth").read_bytes() == BODY


def test_wrong_bytes_are_refused_and_nothing_is_kept(server: BrokenHTTP, tmp_path: Path, pinned: RemoteFile) -> None:
    server.files["/a/weights.pth"] = Hosted(bytes(len(BODY)))
    with pytest.raises(CheckpointError, match=f"published is {SHA}; nothing was kept"):
        _pull(server, tmp_path)
    assert _kept(tmp_path) == set()


@pytest.mark.parametrize("chunked", [False, True])
def test_a_file_of_another_length_is_refused(
    server: BrokenHTTP, tmp_path: Path, pinned: RemoteFile, chunked: bool
) -> None:
    server.files["/a/weights.pth"] = Hosted(BODY + b"more", chunked=chunked)
    with pytest.raises(CheckpointError, match="another mirror"):
        _pull(server, tmp_path)
    assert _kept(tmp_path) == set()


def test_a_page_of_html_is_no_checkpoint(server: BrokenHTTP, tmp_path: Path, unpinned: RemoteFile) -> None:
    server.files["/a/weights.pth"] = Hosted(BODY, content_type="text/html; charset=utf-8")
    with pytest.raises(CheckpointError, match="answers with a page, not the file"):
        _pull(server, tmp_path)
    assert _kept(tmp_path) == set()


def test_the_pointer_of_an_lfs_file_is_no_checkpoint(
    server: BrokenHTTP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _replace_catalogue(
        monkeypatch, RemoteFile("weights.pth", "https://models.example/a/weights.pth", len(BODY), exact_size=False)
    )
    server.files["/a/weights.pth"] = Hosted(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(CheckpointError, match="expected about 300,000; it is another file"):
        _pull(server, tmp_path)
    assert _kept(tmp_path) == set()


def test_a_missing_file_fails_at_once_and_says_what_to_do(
    server: BrokenHTTP, tmp_path: Path, pinned: RemoteFile
) -> None:
    with pytest.raises(CheckpointError, match=r"answers 404.*RAMQ_MODELS_MIRROR.*--from DIR"):
        _pull(server, tmp_path)
    assert len(server.requests) == 1


def test_a_busy_server_is_asked_again(server: BrokenHTTP, tmp_path: Path, pinned: RemoteFile) -> None:
    server.files["/a/weights.pth"] = Hosted(BODY, statuses=[503, 429, 500], headers={"Retry-After": "0"})
    assert _pull(server, tmp_path)[0].state is FileState.OK
    assert len(server.requests) == 4


def test_a_server_that_stays_busy_is_given_up(server: BrokenHTTP, tmp_path: Path, pinned: RemoteFile) -> None:
    server.files["/a/weights.pth"] = Hosted(BODY, statuses=[503] * 9, headers={"Retry-After": "3600"})
    with pytest.raises(CheckpointError, match=r"failed 4 times in a row .the server answers 503"):
        _pull(server, tmp_path)


def test_a_server_that_falls_silent_is_continued(server: BrokenHTTP, tmp_path: Path, pinned: RemoteFile) -> None:
    server.files["/a/weights.pth"] = Hosted(BODY, stall_seconds=1.0)
    checkpoints.pull("toy", tmp_path, mirror=server.url, patience=replace(QUICK, timeout_seconds=0.2))
    assert [each.range for each in server.requests] == [None, "bytes=150000-"]
    assert (tmp_path / "toy/weights.pth").read_bytes() == BODY


def test_a_host_that_is_not_there_is_named(tmp_path: Path, pinned: RemoteFile) -> None:
    with pytest.raises(UnreachableError, match=r"http://127.0.0.1:9/a/weights.pth failed 4 times"):
        checkpoints.pull("toy", tmp_path, mirror="http://127.0.0.1:9", patience=QUICK)


def test_everything_that_arrived_before_a_crash_is_not_fetched_again(
    server: BrokenHTTP, tmp_path: Path, pinned: RemoteFile
) -> None:
    hosted = server.files["/a/weights.pth"] = Hosted(BODY, break_after=[100_000] + [0] * 10)
    with pytest.raises(CheckpointError):
        _pull(server, tmp_path)
    part = tmp_path / "toy/weights.pth.part"
    part.write_bytes(BODY)
    hosted.break_after.clear()
    server.requests.clear()
    _pull(server, tmp_path)
    assert [each.range for each in server.requests] == [f"bytes={len(BODY)}-"]
    assert (tmp_path / "toy/weights.pth").read_bytes() == BODY


def test_a_partial_file_from_another_address_is_not_continued(
    server: BrokenHTTP, tmp_path: Path, pinned: RemoteFile
) -> None:
    hosted = server.files["/a/weights.pth"] = Hosted(BODY, break_after=[100_000] + [0] * 10)
    with pytest.raises(CheckpointError):
        _pull(server, tmp_path)
    hosted.break_after.clear()
    server.files["/other/a/weights.pth"] = Hosted(BODY)
    server.requests.clear()
    checkpoints.pull("toy", tmp_path, mirror=f"{server.url}/other/", patience=QUICK)
    assert [(each.path, each.range) for each in server.requests] == [("/other/a/weights.pth", None)]


def test_a_redirect_on_the_web_is_followed_with_its_range(
    server: BrokenHTTP, tmp_path: Path, pinned: RemoteFile
) -> None:
    server.redirects["/a/weights.pth"] = f"{server.url}/cdn/x"
    server.files["/cdn/x"] = Hosted(BODY, break_after=[100_000])
    _pull(server, tmp_path)
    assert [(each.path, each.range) for each in server.requests][-1] == ("/cdn/x", "bytes=100000-")
    assert (tmp_path / "toy/weights.pth").read_bytes() == BODY


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_a_redirect_off_the_web_is_refused(
    server: BrokenHTTP, tmp_path: Path, unpinned: RemoteFile, target: str
) -> None:
    server.redirects["/a/weights.pth"] = target
    with pytest.raises(CheckpointError, match=r"not followed|not allowed"):
        _pull(server, tmp_path)
    assert _kept(tmp_path) == set()


@pytest.mark.parametrize("mirror", ["file:///srv/models", "mirror.example", ""])
def test_a_mirror_that_is_no_web_address_is_refused(tmp_path: Path, pinned: RemoteFile, mirror: str) -> None:
    with pytest.raises(CheckpointError, match="no web address"):
        checkpoints.pull("toy", tmp_path, mirror=mirror, patience=QUICK)


def test_a_proxy_named_by_the_environment_is_used(
    server: BrokenHTTP, tmp_path: Path, pinned: RemoteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", server.url)
    server.files["http://mirror.invalid/a/weights.pth"] = Hosted(BODY)
    checkpoints.pull("toy", tmp_path, mirror="http://mirror.invalid", patience=QUICK)
    assert (tmp_path / "toy/weights.pth").read_bytes() == BODY


def test_the_first_pull_of_an_unpinned_file_says_and_keeps_the_hash_it_saw(
    server: BrokenHTTP, tmp_path: Path, unpinned: RemoteFile
) -> None:
    server.files["/a/weights.pth"] = Hosted(BODY)
    (status,) = _pull(server, tmp_path)
    assert status.detail == f"no hash is published; recorded the one seen now, {SHA}, in weights.pth.sha256"
    assert not status.pinned
    assert f"{SHA}  weights.pth\n" in (tmp_path / "toy/weights.pth.sha256").read_text()
    subprocess.run(["sha256sum", "--check", "--quiet", "weights.pth.sha256"], cwd=tmp_path / "toy", check=True)
    assert [each.state for each in checkpoints.verify("toy", tmp_path)] == [FileState.OK]


def test_a_recorded_hash_holds_for_later_verifications_and_pulls(
    server: BrokenHTTP, tmp_path: Path, unpinned: RemoteFile
) -> None:
    server.files["/a/weights.pth"] = Hosted(BODY)
    _pull(server, tmp_path)
    target = tmp_path / "toy/weights.pth"
    target.write_bytes(bytes(len(BODY)))
    assert [each.state for each in checkpoints.verify("toy", tmp_path)] == [FileState.DAMAGED]
    server.files["/a/weights.pth"] = Hosted(bytes(len(BODY)))
    with pytest.raises(CheckpointError, match=r"not the one recorded earlier.*delete .*weights.pth.sha256"):
        _pull(server, tmp_path)
    assert not target.exists()


def test_a_damaged_file_is_fetched_again(server: BrokenHTTP, tmp_path: Path, pinned: RemoteFile) -> None:
    server.files["/a/weights.pth"] = Hosted(BODY)
    _pull(server, tmp_path)
    (tmp_path / "toy/weights.pth").write_bytes(BODY[:-1] + b"?")
    assert _pull(server, tmp_path)[0].state is FileState.OK
    assert (tmp_path / "toy/weights.pth").read_bytes() == BODY
    assert _kept(tmp_path) == {"weights.pth"}


def test_a_file_that_is_there_and_right_is_not_fetched_again(
    server: BrokenHTTP, tmp_path: Path, pinned: RemoteFile
) -> None:
    server.files["/a/weights.pth"] = Hosted(BODY)
    _pull(server, tmp_path)
    server.requests.clear()
    assert _pull(server, tmp_path)[0].state is FileState.OK
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
            _pull(server, tmp_path, listener=listener)
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
    assert _kept(tmp_path / "models") == set()


def test_a_folder_that_lacks_a_file_is_named(tmp_path: Path, pinned: RemoteFile) -> None:
    with pytest.raises(CheckpointError, match=r"has no weights.pth; copy it there from https://models.example"):
        checkpoints.pull("toy", tmp_path / "models", from_dir=tmp_path)


def test_a_damaged_copy_is_refused(tmp_path: Path, pinned: RemoteFile) -> None:
    (tmp_path / "weights.pth").write_bytes(bytes(len(BODY)))
    with pytest.raises(CheckpointError, match="nothing was kept"):
        checkpoints.pull("toy", tmp_path / "models", from_dir=tmp_path)
    assert _kept(tmp_path / "models") == set()


def test_a_full_disk_is_noticed_before_the_download(
    server: BrokenHTTP, tmp_path: Path, pinned: RemoteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = download_module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(download_module.shutil, "disk_usage", lambda _path: usage._replace(free=299_999))
    server.files["/a/weights.pth"] = Hosted(BODY)
    with pytest.raises(CheckpointError, match=r"needs 300,000 more bytes .* 299,999 free"):
        _pull(server, tmp_path)
    assert _kept(tmp_path) == set()


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
    monkeypatch.setattr(store, "Patience", lambda: QUICK)
    refused = _cli("pull", "toy", "--models-dir", tmp_path, "--mirror", "http://127.0.0.1:9")
    assert isinstance(refused.exception, ServiceUnavailableError)
