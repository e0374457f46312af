"""From what a user types to an archive, and which archives may be read."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import ForbiddenError, UsageError
from storage.objects.base import S3Options, is_below
from storage.objects.folder import FolderStore
from storage.objects.s3 import S3Store
from storage.objects.source import open_store, parse_source, require_allowed


@pytest.mark.parametrize(
    ("text", "uri", "prefix"),
    [
        ("s3://photos", "s3://photos", ""),
        ("s3://photos/", "s3://photos", ""),
        ("s3://photos/2024/07/", "s3://photos/2024/07", "2024/07"),
        ("s3://my.bucket-1/a b/\u5199\u771f%20#?", "s3://my.bucket-1/a b/\u5199\u771f%20#?", "a b/\u5199\u771f%20#?"),
        ("/photos/", "file:///photos", ""),
        ("/photos/../other/./x", "file:///other/x", ""),
        ("file:///photos/a%20b", "file:///photos/a b", ""),
        ("file://localhost/photos", "file:///photos", ""),
    ],
)
def test_a_source_has_one_name_however_it_is_typed(text: str, uri: str, prefix: str) -> None:
    source = parse_source(text)
    assert (source.uri, source.prefix) == (uri, prefix)
    assert parse_source(source.uri) == source


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00/"), min_size=1, max_size=20))
def test_every_folder_is_found_again_by_its_name(name: str) -> None:
    source = parse_source(f"/no-such-root/{name}/x")
    assert parse_source(source.uri) == source


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20))
def test_every_prefix_of_a_bucket_is_found_again_by_its_name(prefix: str) -> None:
    source = parse_source(f"s3://photos/{prefix}")
    assert parse_source(source.uri) == source


def test_a_relative_folder_and_links_in_it_mean_the_folder_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    assert parse_source("link").root == parse_source("./real").root == str((tmp_path / "real").resolve())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("a\x00b", "NUL"),
        ("s3://", "names no bucket"),
        ("s3:///prefix", "names no bucket"),
        ("s3://a_/x y", "names no bucket"),
        ("s3://user:password@bucket", "names no bucket"),
        ("http://example.org/x", "http:// is not supported"),
        ("gs://bucket", "gs:// is not supported"),
        ("file://another-machine/x", "names another machine"),
        ("file://[", "is not a URI"),
        ("~no-such-user-here/x", "is not a folder"),
        ("/bad\udcff", "not valid UTF-8"),
    ],
)
def test_what_is_no_source_is_refused_in_one_line(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        parse_source(text)
    assert "\n" not in str(caught.value)


def test_an_archive_holds_what_is_below_it_and_not_what_begins_alike() -> None:
    def holds(outer: str, inner: str) -> bool:
        return parse_source(outer).contains(parse_source(inner))

    assert holds("s3://pics", "s3://pics/a/c")
    assert holds("s3://pics/a", "s3://pics/a")
    assert holds("/photos", "/photos/2024")
    assert holds("/", "/photos")
    assert not holds("s3://pics/a", "s3://pics/ab")
    assert not holds("s3://pics/a", "s3://pics")
    assert not holds("s3://pics", "s3://pics2")
    assert not holds("/photos", "/photos2")
    assert not holds("/photos", "/photos/../etc")
    assert not holds("s3://photos", "/photos")
    assert is_below("anything", "/")


@pytest.mark.parametrize(
    ("text", "allowed", "is_reachable", "is_allowed"),
    [
        ("/anywhere", (), False, True),
        ("/anywhere", (), True, False),
        ("s3://photos/x", (), True, False),
        ("/photos/x", ("/photos",), True, True),
        ("/photos/../etc", ("/photos",), True, False),
        ("/photos2", ("/photos",), False, False),
        ("s3://photos/public/x", ("/photos", "s3://photos/public"), True, True),
        ("s3://photos/public-not", ("s3://photos/public",), True, False),
        ("s3://photos", ("s3://photos/public",), True, False),
    ],
)
def test_the_list_of_allowed_archives_is_held(
    text: str, allowed: tuple[str, ...], is_reachable: bool, is_allowed: bool
) -> None:
    if is_allowed:
        require_allowed(parse_source(text), allowed, reachable=is_reachable)
    else:
        with pytest.raises(ForbiddenError, match="RAMQ_ARCHIVE_ALLOW"):
            require_allowed(parse_source(text), allowed, reachable=is_reachable)


def test_a_link_out_of_an_allowed_folder_is_not_allowed(tmp_path: Path) -> None:
    (tmp_path / "allowed").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "allowed" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(ForbiddenError):
        require_allowed(parse_source(str(tmp_path / "allowed" / "link")), (str(tmp_path / "allowed"),), reachable=True)


def test_a_source_opens_as_what_it_is_and_contacts_nobody() -> None:
    folder = open_store(parse_source("/no-such-folder"), S3Options())
    assert isinstance(folder, FolderStore)
    assert folder.root == Path("/no-such-folder")
    bucket = open_store(parse_source("s3://photos/x"), S3Options("http://127.0.0.1:1"))
    assert isinstance(bucket, S3Store)
    assert bucket.bucket == "photos"
