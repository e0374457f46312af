"""Downloads from a real server on loopback that breaks, changes and lies."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ram_core import checkpoints
from ram_core.checkpoints import FileState, Listener, RemoteFile, UnreachableError
from ram_core.checkpoints import download as download_module
from ram_core.errors import CheckpointError
from tests.services.broken_http import BrokenHTTP, Hosted
from tests.toy_checkpoint import BODY, QUICK, SHA, kept, offer, pull_toy

if TYPE_CHECKING:
    from pathlib import Path


def test_a_pulled_file_is_whole_and_leaves_nothing_beside_it(
    server: BrokenHTTP, tmp_path: Path, pinned: RemoteFile
) -> None:
    server.files["/a/weights.pth"] = Hosted(BODY)
    (status,) = pull_toy(server, tmp_path)
    assert status.state is FileState.OK
    assert status.pinned
    assert (tmp_path / "toy/weights.pth").read_bytes() == BODY
    assert kept(tmp_path) == {"weights.pth"}
    assert checkpoints.find("toy", tmp_path) == {"weights.pth": tmp_path / "toy/weights.pth"}


def test_a_connection_that_breaks_several_times_is_continued_where_it_broke(
    server: BrokenHTTP, tmp_path: Path, pinned: RemoteFile
) -> None:
    server.files["/a/weights.pth"] = Hosted(BODY, break_after=[100_000, 50_000, 1, 7])
    notes: list[str] = []
    pull_toy(server, tmp_path, listener=Listener(note=notes.append))
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
    pull_toy(server, tmp_path)
    assert len(server.requests) == 13
    assert (tmp_path / "toy/weights.pth").read_bytes() == BODY


def test_a_later_pull_continues_what_an_earlier_one_left(
    server: BrokenHTTP, tmp_path: Path, pinned: RemoteFile
) -> None:
    hosted = server.files["/a/weights.pth"] = Hosted(BODY, break_after=[100_000], statuses=[])
    hosted.break_after += [0] * 10
    with pytest.raises(CheckpointError, match=r"weights.pth.*100,000 bytes are kept, run the same command again"):
        pull_toy(server, tmp_path)
    (status,) = checkpoints.status("toy", tmp_path)
    assert (status.state, status.size_bytes) == (FileState.PARTIAL, 100_000)
    hosted.break_after.clear()
    server.requests.clear()
    pull_toy(server, tmp_path)
    assert [each.range for each in server.requests] == ["bytes=100000-"]
    assert (tmp_path / "toy/weights.pth").read_bytes() == BODY


def test_a_server_that_ignores_ranges_is_read_from_the_beginning(
    server: BrokenHTTP, tmp_path: Path, pinned: RemoteFile
) -> None:
    server.files["/a/weights.pth"] = Hosted(BODY, break_after=[100_000], ranges=False)
    pull_toy(server, tmp_path)
    assert len(server.requests) == 2
    assert (tmp_path / "toy/weights.pth").read_bytes() == BODY


def test_a_file_that_changes_between_two_tries_is_not_mixed(
    server: BrokenHTTP, tmp_path: Path, unpinned: RemoteFile
) -> None:
    hosted = server.files["/a/weights.pth"] = Hosted(bytes(len(BODY)), break_after=[100_000])

    def swap(_line: str) -> None:
        hosted.body, hosted.etag = BODY, '"two"'

    pull_toy(server, tmp_path, listener=Listener(note=swap))
    assert (tmp_path / "toy/weights.pth").read_bytes() == BODY


def test_a_server_that_overlooks_if_range_cannot_mix_two_versions(
    server: BrokenHTTP, tmp_path: Path, unpinned: RemoteFile
) -> None:
    hosted = server.files["/a/weights.pth"] = Hosted(bytes(len(BODY)), break_after=[100_000])
    hosted.headers["X-Served-By"] = "cache"

    def swap(_line: str) -> None:
        # The old tag stays acceptable as a condition, but the answer carries the new one.
        hosted.body, hosted.last_modified, hosted.etag = BODY, '"one"', '"two"'

    pull_toy(server, tmp_path, listener=Listener(note=swap))
    assert (tmp_path / "toy/weights.pth").read_bytes() == BODY


def test_without_a_validator_an_unpinned_file_is_never_continued(
    server: BrokenHTTP, tmp_path: Path, unpinned: RemoteFile
) -> None:
    server.files["/a/weights.pth"] = Hosted(BODY, etag=None, break_after=[100_000])
    pull_toy(server, tmp_path)
    assert [each.range for each in server.requests] == [None, None]


def test_a_weak_tag_does_not_vouch_for_a_range(server: BrokenHTTP, tmp_path: Path, unpinned: RemoteFile) -> None:
    server.files["/a/weights.pth"] = Hosted(BODY, etag='W/"one"', break_after=[100_000])
    pull_toy(server, tmp_path)
    assert [each.range for each in server.requests] == [None, None]


def test_a_date_vouches_for_a_range_where_there_is_no_tag(
    server: BrokenHTTP, tmp_path: Path, unpinned: RemoteFile
) -> None:
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    server.files["/a/weights.pth"] = Hosted(BODY, etag=None, last_modified=date, break_after=[100_000])
    pull_toy(server, tmp_path)
    assert [(each.range, each.if_range) for each in server.requests] == [(None, None), ("bytes=100000-", date)]


def test_a_continued_download_that_does_not_add_up_is_fetched_once_more(
    server: BrokenHTTP, tmp_path: Path, pinned: RemoteFile
) -> None:
    hosted = server.files["/a/weights.pth"] = Hosted(bytes(len(BODY)), etag=None, break_after=[100_000])

    def swap(_line: str) -> None:
        hosted.body = BODY

    pull_toy(server, tmp_path, listener=Listener(note=swap))
    assert [each.range for each in server.requests] == [None, "bytes=100000-", None]
    assert (tmp_path / "toy/weights.pth").read_bytes() == BODY


def test_wrong_bytes_are_refused_and_nothing_is_kept(server: BrokenHTTP, tmp_path: Path, pinned: RemoteFile) -> None:
    server.files["/a/weights.pth"] = Hosted(bytes(len(BODY)))
    with pytest.raises(CheckpointError, match=f"but {SHA} is published; nothing was kept"):
        pull_toy(server, tmp_path)
    assert kept(tmp_path) == set()


@pytest.mark.parametrize("chunked", [False, True])
def test_a_file_of_another_length_is_refused(
    server: BrokenHTTP, tmp_path: Path, pinned: RemoteFile, chunked: bool
) -> None:
    server.files["/a/weights.pth"] = Hosted(BODY + b"more", chunked=chunked)
    with pytest.raises(CheckpointError, match="another mirror"):
        pull_toy(server, tmp_path)
    assert kept(tmp_path) == set()


def test_a_page_of_html_is_no_checkpoint(server: BrokenHTTP, tmp_path: Path, unpinned: RemoteFile) -> None:
    server.files["/a/weights.pth"] = Hosted(BODY, content_type="text/html; charset=utf-8")
    with pytest.raises(CheckpointError, match="answers with a page, not the file"):
        pull_toy(server, tmp_path)
    assert kept(tmp_path) == set()


def test_the_pointer_of_an_lfs_file_is_no_checkpoint(
    server: BrokenHTTP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, None, exact_size=False)
    server.files["/a/weights.pth"] = Hosted(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(CheckpointError, match="expected about 300,000; it is a different file"):
        pull_toy(server, tmp_path)
    assert kept(tmp_path) == set()


def test_a_missing_file_fails_at_once_and_says_what_to_do(
    server: BrokenHTTP, tmp_path: Path, pinned: RemoteFile
) -> None:
    with pytest.raises(CheckpointError, match=r"answers 404.*RAMQ_MODELS_MIRROR.*--from DIR"):
        pull_toy(server, tmp_path)
    assert len(server.requests) == 1


def test_a_busy_server_is_asked_again(server: BrokenHTTP, tmp_path: Path, pinned: RemoteFile) -> None:
    server.files["/a/weights.pth"] = Hosted(BODY, statuses=[503, 429, 500], headers={"Retry-After": "0"})
    assert pull_toy(server, tmp_path)[0].state is FileState.OK
    assert len(server.requests) == 4


def test_a_server_that_stays_busy_is_given_up(server: BrokenHTTP, tmp_path: Path, pinned: RemoteFile) -> None:
    server.files["/a/weights.pth"] = Hosted(BODY, statuses=[503] * 9, headers={"Retry-After": "3600"})
    with pytest.raises(CheckpointError, match=r"failed 4 times in a row .the server answers 503"):
        pull_toy(server, tmp_path)


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
        pull_toy(server, tmp_path)
    part = tmp_path / "toy/weights.pth.part"
    part.write_bytes(BODY)
    hosted.break_after.clear()
    server.requests.clear()
    pull_toy(server, tmp_path)
    assert [each.range for each in server.requests] == [f"bytes={len(BODY)}-"]
    assert (tmp_path / "toy/weights.pth").read_bytes() == BODY


def test_a_partial_file_from_another_address_is_not_continued(
    server: BrokenHTTP, tmp_path: Path, pinned: RemoteFile
) -> None:
    hosted = server.files["/a/weights.pth"] = Hosted(BODY, break_after=[100_000] + [0] * 10)
    with pytest.raises(CheckpointError):
        pull_toy(server, tmp_path)
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
    pull_toy(server, tmp_path)
    assert [(each.path, each.range) for each in server.requests][-1] == ("/cdn/x", "bytes=100000-")
    assert (tmp_path / "toy/weights.pth").read_bytes() == BODY


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_a_redirect_off_the_web_is_refused(
    server: BrokenHTTP, tmp_path: Path, unpinned: RemoteFile, target: str
) -> None:
    server.redirects["/a/weights.pth"] = target
    with pytest.raises(CheckpointError, match=r"not followed|not allowed"):
        pull_toy(server, tmp_path)
    assert kept(tmp_path) == set()


@pytest.mark.parametrize("mirror", ["file:///srv/models", "mirror.example", ""])
def test_a_mirror_that_is_no_web_address_is_refused(tmp_path: Path, pinned: RemoteFile, mirror: str) -> None:
    with pytest.raises(CheckpointError, match="not a web address"):
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


def test_a_full_disk_is_noticed_before_the_download(
    server: BrokenHTTP, tmp_path: Path, pinned: RemoteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = download_module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(download_module.shutil, "disk_usage", lambda _path: usage._replace(free=299_999))
    server.files["/a/weights.pth"] = Hosted(BODY)
    with pytest.raises(CheckpointError, match=r"needs 300,000 more bytes .* 299,999 free"):
        pull_toy(server, tmp_path)
    assert kept(tmp_path) == set()
