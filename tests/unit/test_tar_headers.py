"""What is in a tar file, by its headers: every format, and whatever can be wrong with them."""

from __future__ import annotations

import io
import subprocess
import tarfile
import tracemalloc
from array import array
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.objects import tar_headers
from storage.objects.tar_headers import BAD_NAME_SIZE, TOO_LONG_SIZE, Flaw, TarIndex, TooManyError, read_index
from tests.tar_files import BLOCK, END, FORMATS, filled, header, packed, pax

if TYPE_CHECKING:
    from pathlib import Path

NAMES = st.text(alphabet=st.sampled_from("ab/.é\U0001f600 -"), min_size=1, max_size=200).filter(
    lambda name: not name.endswith("/")  # a folder, although Python writes it as a file
)


def index_of(body: bytes, most: int = 1_500, room: int = tar_headers.MAX_MEMBERS) -> TarIndex:
    return read_index(lambda at, length: body[at : at + length], len(body), max_name_bytes=most, room=room)


def contents(body: bytes) -> dict[str, bytes]:
    return {each.name: body[each.offset : each.offset + each.size] for each in index_of(body).after(None)}


def names(body: bytes) -> list[str]:
    return [each.name for each in index_of(body).after(None)]


# Formats -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", FORMATS)
def test_members_of_each_format_are_found_with_their_bytes(format_: str) -> None:
    long = "folder/" * 13 + "name.jpg"
    members = {"b.jpg": b"b" * 512, "a/é.jpg": b"a" * 513, "empty.jpg": b"", long: b"l"}
    body = packed(members, format_)
    assert contents(body) == members
    assert list(contents(body)) == sorted(members, key=str.encode)
    assert {each.mtime for each in index_of(body).after(None)} == {1_700_000_000}
    assert index_of(body).flaw is None


@pytest.mark.parametrize("format_", ["gnu", "pax"])
def test_names_longer_than_a_header_are_whole(format_: str) -> None:
    name = "x" * 150 + "/" + "é" * 200 + ".jpg"
    assert contents(packed({name: b"abc"}, format_)) == {name: b"abc"}


@given(members=st.dictionaries(NAMES, st.binary(max_size=1_100), max_size=6), format_=st.sampled_from(["gnu", "pax"]))
def test_any_members_are_those_that_python_finds(members: dict[str, bytes], format_: str) -> None:
    body = packed(members, format_)
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(body)) as file:
        for each in file.getmembers():
            parts = [part for part in each.name.split("/") if part not in {"", "."}]
            read = file.extractfile(each)
            if parts and ".." not in parts and each.isreg() and read is not None:
                found["/".join(parts)] = read.read()
    usable = {each.name: each for each in index_of(body).after(None) if each.size != BAD_NAME_SIZE}
    assert {name: body[each.offset : each.offset + each.size] for name, each in usable.items()} == found


@pytest.mark.parametrize("options", [("--format=v7",), ("--format=gnu",), ("--format=pax",), ("--format=ustar",)])
def test_what_gnu_tar_writes_is_read(tmp_path: Path, options: tuple[str, ...]) -> None:
    (tmp_path / "photos" / "inner").mkdir(parents=True)
    for name in ("a.jpg", "inner/b.jpg"):
        (tmp_path / "photos" / name).write_bytes(name.encode() * 100)
    (tmp_path / "photos" / "link.jpg").symlink_to("a.jpg")
    (tmp_path / "photos" / "same.jpg").hardlink_to(tmp_path / "photos" / "inner" / "b.jpg")
    command = ["tar", *options, "-cf", "x.tar", "--sort=name", "-C", "photos", "."]
    subprocess.run(command, cwd=tmp_path, check=True)
    body = (tmp_path / "x.tar").read_bytes()
    assert contents(body) == {"a.jpg": b"a.jpg" * 100, "inner/b.jpg": b"inner/b.jpg" * 100}


@pytest.mark.parametrize("options", [("--format=gnu",), ("--format=pax",)])
def test_sparse_files_are_left_out_and_what_follows_is_found(tmp_path: Path, options: tuple[str, ...]) -> None:
    with (tmp_path / "a.jpg").open("wb") as file:
        for number in range(40):  # more holes than one header has room for
            file.seek(number * 100_000)
            file.write(b"x" * 5_000)
    (tmp_path / "b.jpg").write_bytes(b"b" * 700)
    subprocess.run(["tar", *options, "-S", "-cf", "x.tar", "a.jpg", "b.jpg"], cwd=tmp_path, check=True)
    body = (tmp_path / "x.tar").read_bytes()
    assert len(body) < 1_000_000, "the file system keeps no holes"
    assert contents(body) == {"b.jpg": b"b" * 700}


def test_links_devices_and_folders_are_left_out() -> None:
    body = b"".join(header(b"x%d.jpg" % number, 0, b"%d" % number) for number in range(1, 7))
    body += header(b"folder/", 0, b"0") + header(b"volume", 3, b"V") + filled(b"abc")
    assert contents(body + header(b"last.jpg", 3) + filled(b"abc") + END) == {"last.jpg": b"abc"}


def test_what_pax_says_counts_before_the_header() -> None:
    body = pax(path="dir/long.jpg", size="3", mtime="1600000000.5") + header(b"short.jpg", 0) + filled(b"abc") + END
    (member,) = index_of(body).after(None)
    assert (member.name, member.size, member.mtime) == ("dir/long.jpg", 3, 1_600_000_000)
    shared = b"24 path=of all that follow\n"
    body = header(b"g", len(shared) + 3, b"g") + filled(b"27" + shared[2:] + b"\0\0\0") + header(b"x", 1) + filled(b"x")
    assert contents(body) == {"of all that follow": b"x"}


# Names -------------------------------------------------------------------------------------------------------------


def test_the_last_of_several_members_with_one_name_counts() -> None:
    first = header(b"a.jpg", 3) + filled(b"old")
    assert contents(first + header(b"./a.jpg", 3) + filled(b"new") + END) == {"a.jpg": b"new"}


def test_names_lead_nowhere() -> None:
    body = b"".join(
        header(name, 1) + filled(b"x")
        for name in (b"/etc/passwd", b"./b//c.jpg", b"../../up.jpg", b"d/../e.jpg", b"./")
    )
    body += pax(path="zero\0byte.jpg") + header(b"z", 1) + filled(b"x") + header(b"", 1) + filled(b"x") + END
    found = {each.name: each.size for each in index_of(body).after(None)}
    assert found == {
        "etc/passwd": 1,
        "b/c.jpg": 1,
        "../../up.jpg": BAD_NAME_SIZE,
        "d/../e.jpg": BAD_NAME_SIZE,
        r"zero\x00byte.jpg": BAD_NAME_SIZE,
        "(no name)": BAD_NAME_SIZE,
    }


def test_a_name_that_is_not_utf_8_is_written_out_and_its_bytes_are_found() -> None:
    body = header("图片.jpg".encode("gbk") + b"\xff", 3) + filled(b"abc") + END
    assert contents(body) == {"图片.jpg".encode("gbk").decode(errors="backslashreplace") + r"\xff": b"abc"}


def test_no_two_names_become_one_key() -> None:
    names = [
        b"caf\xe9.jpg",
        rb"caf\xe9.jpg",
        rb"caf\\xe9.jpg",
        b"caf\\\xe9.jpg",
        b"caf\\\\\xe9.jpg",
        rb"plain\x41.jpg",
        "caf\\\u00e9.jpg".encode(),
    ]
    body = b"".join(header(name, 1) + filled(b"x") for name in names) + END
    found = [each.name for each in index_of(body).after(None)]
    assert sorted(found) == sorted(
        {
            r"caf\xe9.jpg",
            r"caf\\xe9.jpg",
            r"caf\\\\xe9.jpg",
            r"caf\\\xe9.jpg",
            r"caf\\\\\xe9.jpg",
            r"plain\x41.jpg",
            "caf\\\u00e9.jpg",
        }
    )


def test_of_a_name_that_is_too_long_the_beginning_is_kept() -> None:
    body = packed({"é" * 900 + ".jpg": b"x", "a.jpg": b"a"})
    found = {each.name: each.size for each in index_of(body, most=1_001).after(None)}
    assert found == {"a.jpg": 1, "é" * 500: TOO_LONG_SIZE}


# Damage ------------------------------------------------------------------------------------------------------------

GOOD = header(b"a.jpg", 3) + filled(b"abc")


@pytest.mark.parametrize(
    ("rest", "flaw"),
    [
        pytest.param(END, None, id="whole"),
        pytest.param(b"", None, id="no-end"),
        pytest.param(bytes(BLOCK) + b"rubbish" * 100, None, id="behind-the-end"),
        pytest.param(END + GOOD + END, Flaw("goes_on", 2048), id="another-tar"),
        pytest.param(END + bytes(16 * BLOCK) + GOOD + END, Flaw("goes_on", 10_240), id="another-tar-behind-padding"),
        pytest.param(header(b"b", 3), Flaw("truncated", 1024), id="no-data"),
        pytest.param(header(b"b", 600) + bytes(599), Flaw("truncated", 1024), id="half-data"),
        pytest.param(header(b"b", 3) + b"abc", None, id="no-padding"),
        pytest.param(header(b"b", 3)[:300], Flaw("truncated", 1024), id="half-header"),
        pytest.param(b"\xff" * BLOCK + END, Flaw("damaged", 1024), id="no-header"),
        pytest.param(header(b"b", b"\xff" * 12) + END, Flaw("damaged", 1024), id="negative"),
        pytest.param(header(b"b", b"-0000000001\0") + END, Flaw("damaged", 1024), id="minus"),
        pytest.param(header(b"b", b"\x80" + b"\xff" * 11) + END, Flaw("damaged", 1024), id="2**88"),
        pytest.param(header(b"b", b"\x80" + b"\0" * 4 + b"\x0a" + b"\0" * 6) + END, Flaw("truncated", 1024), id="10TB"),
        pytest.param(header(b"b", b"99999999999\0") + END, Flaw("damaged", 1024), id="no-octal"),
        pytest.param(header(b"b", 2**32, b"L") + END, Flaw("damaged", 1024), id="name-of-4GB"),
        pytest.param(header(b"b", 400, b"x") + filled(b"9" * 400), Flaw("damaged", 1024), id="no-record"),
        pytest.param(header(b"b", 9, b"x") + filled(b"30 path=b"), Flaw("damaged", 1024), id="long-record"),
        pytest.param(header(b"b", 8, b"x") + filled(b"0 path=b"), Flaw("damaged", 1024), id="record-of-0"),
        pytest.param(pax(size="-5") + header(b"b", 3), Flaw("damaged", 1024), id="negative-pax"),
        pytest.param(pax(size="9" * 30) + header(b"b", 3), Flaw("damaged", 1024), id="huge-pax"),
        pytest.param(pax(size=str(10**13)) + header(b"b", 3), Flaw("truncated", 2048), id="10TB-pax"),
        pytest.param(header(b"b", 3, b"S", b482=b"\1"), Flaw("truncated", 1536), id="sparse-without-map"),
    ],
)
def test_damage_ends_the_list_with_its_place(rest: bytes, flaw: Flaw | None) -> None:
    found = index_of(GOOD + rest)
    assert found.flaw == flaw
    assert found.find("a.jpg") == next(found.after(None))
    assert found.find("none.jpg") is None


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"", "empty"),
        (b"\xff\xd8\xff" + bytes(2_000), "not_tar"),
        (b"short", "not_tar"),
        (b"\x1f\x8b\x08" + bytes(2_000), "gzip"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"BZh9" + bytes(600), "bzip2"),
        (b"\xfd7zXZ\0" + bytes(600), "xz"),
    ],
)
def test_what_is_no_tar_is_said_by_its_first_bytes(body: bytes, fault: str) -> None:
    assert index_of(body).flaw == Flaw(fault, 0)  # type: ignore[arg-type]  # one of those


@given(st.binary(max_size=3_000), st.integers(0, 2_500))
def test_whatever_is_overwritten_there_is_an_answer(rubbish: bytes, at: int) -> None:
    whole = packed({"a.jpg": b"a" * 700, "b" * 200: b"b", "c.jpg": b"c" * 10})
    body = (whole[:at] + rubbish + whole[at + len(rubbish) :])[: len(whole)]
    for each in index_of(body).after(None):
        assert each.size < 0 or each.offset + each.size <= len(body)


def test_a_tar_that_became_shorter_while_it_is_read_is_cut_short() -> None:
    body = GOOD * 3
    found = read_index(lambda at, length: body[: 2 * BLOCK][at : at + length], len(body), max_name_bytes=99)
    assert found.flaw == Flaw("truncated", 1024)


# Size --------------------------------------------------------------------------------------------------------------


def test_too_many_members_are_cut_off_and_too_many_headers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_headers, "MAX_MEMBERS", 100)
    monkeypatch.setattr(tar_headers, "MAX_HEADERS", 400)
    one = header(b"", 0)

    def endless(at: int, length: int) -> bytes:
        return header(b"%d" % at, 0)[:length]

    def folders(at: int, length: int) -> bytes:
        return header(b"d", 0, b"5")[:length]

    assert len(one) == BLOCK
    found = read_index(endless, 10**15, max_name_bytes=99, room=100)
    assert (len(found), found.flaw and found.flaw.fault) == (100, "too_many")
    found = read_index(folders, 10**15, max_name_bytes=99, room=100)
    assert (len(found), found.flaw and found.flaw.fault) == (0, "too_many")
    with pytest.raises(TooManyError):
        read_index(endless, 10**15, max_name_bytes=99, room=50)


def test_the_members_of_a_tar_take_little_memory() -> None:
    count = 20_000
    columns = tuple(array("q", range(count)) for _ in range(3))
    tracemalloc.start()
    found = TarIndex([b"folder/%09d.jpg" % number for number in range(count)], columns, None)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == count
    assert kept / count < 150, "bytes for each member"
