from __future__ import annotations

import json
import sys
from datetime import UTC, datetime

import pytest

from ramq.cli import output
from ramq.cli.output import as_data, duration, print_json, print_table, shortened, shown
from storage.search.views import Facet, HitPage
from storage.texts import visible


def test_views_become_json_that_keeps_every_language(capsys: pytest.CaptureFixture[str]) -> None:
    print_json(HitPage([Facet(7, "cat", "猫", 2)], "next"))
    out = capsys.readouterr().out
    assert json.loads(out) == {
        "items": [{"id": 7, "name": "cat", "name_zh": "猫", "count": 2}],
        "next_cursor": "next",
        "total": None,
        "below": None,
        "space": None,
        "unranked": {},
        "notes": [],
        "ended": None,
    }
    assert "猫" in out


def test_times_and_tuples_become_what_json_knows() -> None:
    at = datetime(2026, 11, 21, 5, 0, tzinfo=UTC)
    assert as_data({1: (at, None)}) == {"1": ["2026-11-21T05:00:00+00:00", None]}


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (True, "yes"), (False, "no"), (1234567, "1,234,567"), (0.12345, "0.123"), (1234.5, "1,234.5")],
)
def test_cells_are_written_as_people_read_them(value: object, text: str) -> None:
    assert shown(value) == text


@pytest.mark.parametrize(
    ("text", "safe"),
    [("a\nb", "a\\nb"), ("\x1b[2J", "\\x1b[2J"), ("\u202egpj", "\\u202egpj"), ("猫 ü", "猫 ü"), ("\udcff", "\\udcff")],
)
def test_what_could_move_the_cursor_is_written_out(text: str, safe: str) -> None:
    assert visible(text) == safe


def test_a_key_cannot_style_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("key", "n"), [("[red]a[/red]", 1), ("b", 20)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("[red]a[/red]")
    assert lines[1].endswith(" 1")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (7200, "2 h"),
        (3599, "59 min 59 s"),
        (7500, "2 h 05 min"),
    ],
)
def test_lengths_of_time_are_written_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(None) == "-"
    assert duration(seconds) == text


class _Terminal:
    def __init__(self, width: int) -> None:
        self.width = width


ROWS = [(1, "running", 12_000, "s3://a-rather-long-bucket/with/a/prefix"), (2, "done", 3, "s3://b")]


def test_a_pipe_gets_every_column_and_a_row_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("job", "state", "listed", "source"), [*ROWS, (3, "done", 1, "s3://" + "x" * 300)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[1].split() == ["1", "running", "12,000", "s3://a-rather-long-bucket/with/a/prefix"]
    assert lines[3].endswith("x" * 300)


@pytest.mark.parametrize(
    ("width", "first"),
    [
        (80, "1  running  12,000  s3://a-rather-long-bucket/with/a/prefix"),
        (50, "1  s3://a-rather-long-bucket/with/a/prefix"),
        (30, "1  s3://a-rather-long-bucke…"),
    ],
)
def test_a_narrow_terminal_loses_columns_before_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int, first: str
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(output, "out", lambda: _Terminal(width))
    print_table(("job", "state", "listed", "source"), ROWS, keep=("source",))
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[1].split() == first.split()
    assert max(map(len, lines)) <= width
    assert ("The terminal is too narrow" in captured.err) == (width < 80)


def test_nothing_to_list_is_said_beside_the_output(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("job",), [], empty="No jobs yet.")
    captured = capsys.readouterr()
    assert (captured.out, captured.err.strip()) == ("", "No jobs yet.")


def test_a_message_does_not_go_on_for_screens() -> None:
    assert shortened("there is no image '" + "9" * 10_000 + "'") == (
        "there is no image '" + "9" * 79 + "… (10,002 characters)"
    )
    assert shortened("short words stay " * 100) == "short words stay " * 100


def test_json_is_the_same_and_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    key = "a\x1b[31m\x07\x9b2J\x7f\u202egpj.exe\u2028\u2066é猫\U0001f600\n"
    output.print_json({"key": key})
    output.print_json_items([{"key": key}])
    said = capsys.readouterr().out
    assert json.loads(said.partition("}\n")[0] + "}") == {"key": key}
    assert "é猫\U0001f600" in said
    assert said.replace("\n", "").isprintable()
