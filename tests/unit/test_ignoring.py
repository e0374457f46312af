"""What is left out of a listing: the default list, patterns, and files of patterns."""

from __future__ import annotations

import pytest

from storage.errors import UsageError
from storage.objects.ignoring import MAX_FILE_BYTES, MAX_PATTERNS, REASONS, Ignoring, Selection, default_list
from tests.junk import FILMS, JUNK, PICTURES, SIDECARS

NOTHING = Selection(has_defaults=False)


def reasons(selection: Selection, *keys: str) -> list[str | None]:
    ignoring = Ignoring(selection, "folder")
    return [ignoring.reason(key) for key in keys]


def left(selection: Selection, *keys: str) -> list[str]:
    return [key for key, reason in zip(keys, reasons(selection, *keys), strict=True) if reason is None]


def test_the_junk_of_programs_cameras_and_storage_is_left_out_and_photographs_are_not() -> None:
    assert left(Selection(), *PICTURES, *JUNK) == list(PICTURES)
    assert set(reasons(Selection(), *FILMS)) == {"film"}
    assert set(reasons(Selection(), *SIDECARS)) == {"sidecar"}
    assert left(NOTHING, *PICTURES, *JUNK) == [*PICTURES, *JUNK]


@pytest.mark.parametrize(
    "key",
    [
        "notes.txt", "poison.bin", "a/readme.md", "data.json", "broken.jpg", "empty", "x.psd", "x.pdf", ".hidden.jpg",
        "eaDir/a.jpg", "recycle/a.jpg", "my #recycle/a.jpg", "Thumbs.db.jpg", "movie.mov.jpg", "mov", "xmp", "a.ts",
        "IMG.thm.png", "a.nef", "a.gif", "a.svg",
    ],
)  # fmt: skip
def test_a_name_that_is_not_known_junk_is_listed(key: str) -> None:
    assert reasons(Selection(), key) == [None]


def test_the_case_of_known_junk_does_not_matter_that_of_patterns_does() -> None:
    assert reasons(Selection(), "THUMBS.DB", "a.Mov", "DESKTOP.INI") == ["default", "film", "default"]
    assert left(Selection(exclude=("*.gif",)), "a.gif", "a.GIF") == ["a.GIF"]


def test_the_list_is_text_for_people_with_a_reason_for_each_pattern() -> None:
    assert "@eaDir" in default_list().splitlines()
    assert {"default", "sidecar", "film", "pattern", "no_tar", "ramqignore"} == set(REASONS)


def test_what_is_only_of_buckets_is_left_out_only_there() -> None:
    assert Ignoring(Selection(), "s3").reason("a/b_$folder$") == "default"
    assert Ignoring(Selection(), "folder").reason("a/b_$folder$") is None


@pytest.mark.parametrize(
    ("patterns", "keys", "kept"),
    [
        (("*.gif",), ("a.gif", "b/c.gif", "a.jpg"), ["a.jpg"]),
        (("/a",), ("a", "a/b", "b/a"), ["b/a"]),
        (("a/",), ("a", "a/b", "b/a/c"), ["a"]),
        (("a/b",), ("a/b/c", "x/a/b"), ["x/a/b"]),
        (("a/**/z",), ("a/z", "a/b/c/z", "a/b/y"), ["a/b/y"]),
        (("foo/*", "!foo/keep"), ("foo/a", "foo/keep", "foo/keep/x"), ["foo/keep", "foo/keep/x"]),
        (("foo/**", "!foo/**/", "!keep"), ("foo/a", "foo/b/keep", "foo/b/a"), ["foo/b/keep"]),
        (("*", "!*/", "!*.jpg"), ("a.jpg", "a/b.jpg", "a/b.png", "c.png"), ["a.jpg", "a/b.jpg"]),
        (("*.jpg", "!b.jpg"), ("a.jpg", "b.jpg"), ["b.jpg"]),
        (("!b.jpg", "*.jpg"), ("a.jpg", "b.jpg"), []),
        (("#recycle",), ("#recycle/a", "recycle/a"), ["recycle/a"]),
        (("a[0-9].jpg",), ("a1.jpg", "ab.jpg"), ["ab.jpg"]),
        (("b c",), ("b c", "b  c"), ["b  c"]),
    ],
)
def test_patterns_mean_what_they_mean_in_a_gitignore(
    patterns: tuple[str, ...], keys: tuple[str, ...], kept: list[str]
) -> None:
    assert left(Selection(exclude=patterns, has_defaults=False), *keys) == kept


def test_nothing_is_taken_back_from_a_folder_that_is_left_out() -> None:
    keys = ("@eaDir/keep.jpg", "keep.jpg")
    assert left(Selection(exclude=("!keep.jpg",)), *keys) == ["keep.jpg"]
    assert left(Selection(exclude=("!@eaDir",)), *keys) == list(keys)


def test_include_lists_only_what_it_names_and_takes_nothing_back() -> None:
    keys = ("2023/a.jpg", "2024/a.jpg", "2024/a.mov", "2024/b/c.jpg", "2024/@eaDir/d.jpg")
    assert left(Selection(include=("2024/",)), *keys) == ["2024/a.jpg", "2024/b/c.jpg"]
    assert left(Selection(include=("2024/", "!b/")), *keys) == ["2024/a.jpg"]
    assert left(Selection(include=("*.jpg",), exclude=("2023/",)), *keys) == ["2024/a.jpg", "2024/b/c.jpg"]
    assert reasons(Selection(include=("2024/",)), "2023/a.jpg") == ["pattern"]


def test_a_pattern_finds_a_name_in_either_unicode_form() -> None:
    composed, decomposed = "caf\u00e9.jpg", "cafe\u0301.jpg"
    for pattern in (composed, decomposed):
        assert left(Selection(exclude=(pattern,)), composed, decomposed, "cafe.jpg") == ["cafe.jpg"]


def test_a_line_end_in_a_key_hides_nothing() -> None:
    assert reasons(Selection(), "a\nb/@eaDir/c.jpg", "a\n/x.mov", "Thumbs.db\n") == ["default", "film", None]


def test_patterns_count_from_the_listed_part_on_and_its_own_name_does_not_matter() -> None:
    ignoring = Ignoring(Selection(exclude=("/private",)), "folder", prefix="@eaDir/2024")
    assert ignoring.reason("@eaDir/2024/a.jpg") is None
    assert ignoring.reason("@eaDir/2024/private/a.jpg") == "pattern"
    assert ignoring.reason("@eaDir/2024/@eaDir/") == "default"
    assert Ignoring(Selection(), "s3", prefix="a.mov").reason("a.mov") is None


def test_a_file_counts_in_its_folder_and_below_and_a_deeper_one_comes_after_it() -> None:
    ignoring = Ignoring(Selection(), "folder")
    ignoring.add_file("", b"# not these\n*.png\n/raw\n", "root")
    ignoring.add_file("a/", b"!*.png\nb/c.jpg\n", "a")
    said = {
        "x.png": "ramqignore", "raw/x.jpg": "ramqignore", "a/x.png": None, "a/b/c.jpg": "ramqignore", "b/c.jpg": None,
        "a/raw/x.jpg": None, ".ramqignore": "ramqignore", "a/Thumbs.db": "default",
    }  # fmt: skip
    assert {key: ignoring.reason(key) for key in said} == said
    typed = Ignoring(Selection(exclude=("!x.png",)), "folder")
    typed.add_file("", b"*.png", "root")
    assert (typed.reason("x.png"), typed.reason("y.png")) == (None, "ramqignore")


def test_a_file_above_the_listed_part_counts_too() -> None:
    ignoring = Ignoring(Selection(), "s3", prefix="p/a/b", root="p")
    assert ignoring.above() == ["p/", "p/a/", "p/a/b/"]
    ignoring.add_file("p/", b"a/b/raw\n*.png\na/b\n", "p")
    assert ignoring.reason("p/a/b/raw/x.jpg") == "ramqignore"
    assert ignoring.reason("p/a/b/x.png") == "ramqignore"
    assert ignoring.reason("p/a/b/x.jpg") is None  # a person named the part


@pytest.mark.parametrize("pattern", ["", " ", "/", "!", "[z-a]", "a\nb", "a\x00b", "x" * 1_001, "\\"])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError, match=r"--exclude: .* is not a pattern as in \.gitignore"):
        Selection(exclude=(pattern,)).check()


def test_too_many_patterns_belong_into_a_file() -> None:
    with pytest.raises(UsageError, match=r"put them into a file \.ramqignore"):
        Selection(include=("a",) * (MAX_PATTERNS + 1)).check()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"a\n[z-a]\n", r"/x/\.ramqignore, line 2: '\[z-a\]' is not a pattern"),
        (b"\xff\xfe", "not text in UTF-8"),
        (b"a\n" * MAX_FILE_BYTES, "larger than 1,024 KiB"),
    ],
)
def test_a_damaged_file_is_an_error_that_names_the_line(content: bytes, error: str) -> None:
    with pytest.raises(UsageError, match=error):
        Ignoring(Selection(), "folder").add_file("", content, "/x/.ramqignore")


@pytest.mark.parametrize(
    ("pattern", "key", "is_left_out"),
    [
        ("*a" * 40 + "*b", "/".join(["a" * 200] * 8 + ["a.png"]), False),
        ("*a" * 40 + "*b", "a" * 200 + "b", True),
        ("x/" + "*a" * 40 + "*b/*", "x/" + "a" * 1_000 + "/c", False),
        ("**/*a*a*a*b/**/*a*a*b", "/".join(["a" * 100] * 10), False),
        ("*ab*ab*", "aabxabx.png", True),
        ("*a?c*d*.png", "xabcxdx.png", True),
        ("*a[bc]*c.png", "abacc.png", True),
        ("*ab*b", "ab", False),
    ],
)
def test_many_stars_take_no_longer_and_mean_what_they_do_in_git(pattern: str, key: str, is_left_out: bool) -> None:
    assert reasons(Selection(exclude=(pattern,)), key) == ["pattern" if is_left_out else None]


def test_patterns_that_would_take_long_are_refused() -> None:
    with pytest.raises(UsageError, match=r"more than 3 times \*\*"):
        Selection(exclude=("**/a/" * 4 + "b",)).check()
    with pytest.raises(UsageError, match="more than 10,000 lines"):
        Ignoring(NOTHING, "folder").add_file("", b"a\n" * 10_001, ".ramqignore")
