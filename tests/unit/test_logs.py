from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING

import pytest
import structlog

from ramq.logs import configure_logs, configure_structlog
from storage.texts import without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://ramq:hunter2@db:5432/ramq", "postgresql://ramq:***@db:5432/ramq"),
        ("redis://:hunter2@redis/0", "redis://:***@redis/0"),
        ("two: a://b:c@d and e://f:g@h", "two: a://b:***@d and e://f:***@h"),
        ("postgresql+psycopg://u:p%40ss@h/d", "postgresql+psycopg://u:***@h/d"),
        ("s3://bucket/a:b@c", "s3://bucket/a:b@c"),
        ("http://localhost:8765/", "http://localhost:8765/"),
    ],
)
def test_the_password_of_every_url_is_hidden(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


def test_a_line_elsewhere_than_on_a_terminal_is_json_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    configure_structlog("info")
    structlog.get_logger(job=3).info("listed", keys=7, source="s3://me:secret@host/x")
    out, err = capsys.readouterr()
    line = json.loads(err)
    assert out == ""
    assert line["event"] == "listed"
    assert (line["job"], line["keys"], line["level"]) == (3, 7, "info")
    assert line["source"] == "s3://me:***@host/x"


def test_lines_below_the_level_are_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    configure_structlog("warning")
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == ["loud"]


def test_records_of_libraries_take_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info")
    logging.getLogger("some.library").warning("lost %s", "redis://:secret@host")
    logging.getLogger("some.library").info("chatter")
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["level"] == "warning"
    assert "secret" not in line


def test_an_exception_stays_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_structlog("info")
    try:
        int("x")
    except ValueError:
        structlog.get_logger().exception("odd")
    (line,) = capsys.readouterr().err.splitlines()
    assert "invalid literal" in json.loads(line)["exception"]


def test_a_key_in_a_line_on_a_terminal_moves_no_cursor(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    configure_structlog("info")
    structlog.get_logger().warning("gone: \x1b[2Jkey", key="a\nb\x9b31m")
    (line,) = capsys.readouterr().err.splitlines()
    assert "\\x1b[2Jkey" in line
    assert "a\\nb\\x9b31m" in line
