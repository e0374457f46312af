"""The command line as a shell sees it: exit codes, streams, and one line instead of a traceback.

``run`` runs a command in this process (see ``tests.services.command_line``), ``run_process`` as a process of its own.
Every exit code, the start on services of its own, Ctrl-C, pipes and what is loaded are tested with real processes.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from typer.main import get_command

from ramq.cli.main import command_line
from ramq.settings import Settings
from ramq.version import described
from storage.database import make_engine
from tests.services.command_line import COMMAND
from tests.services.fleet import client_services, running_fleet, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.services.postgres import PostgresServer
    from tests.services.redis import RedisServer

    Run = Callable[..., subprocess.CompletedProcess[str]]

PICTURES = 3


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command, and every group of commands, by its words."""
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*path, name))


COMMANDS = dict(commands(get_command(command_line())))
NARROWING = [
    (*path, option)
    for path, command in COMMANDS.items()
    for option in ("--archive", "--prefix")
    if any(option in parameter.opts for parameter in command.params)
]
NEEDED = {("quota", "set"): ("images-waiting", "5"), ("quota", "unset"): ("images-waiting",)}
"""Arguments without which the options of these commands are not looked at."""


@pytest.fixture
def on_services(settings: Settings) -> dict[str, str]:
    """The settings of real services."""
    assert settings.database_url is not None
    assert settings.broker_url is not None
    return {"RAMQ_DATABASE_URL": settings.database_url, "RAMQ_BROKER_URL": settings.broker_url}


@dataclass(frozen=True)
class Recorded:
    """A finished job over a few pictures and one file that is none, with a worker that goes on listening."""

    job_id: int
    folder: Path
    environment: dict[str, str]


@pytest.fixture(scope="module")
def recorded(
    postgres_server: PostgresServer, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Recorded]:
    base = tmp_path_factory.mktemp("cli")
    folder = base / "pictures"
    folder.mkdir()
    for number in range(PICTURES):
        Image.new("RGB", (64, 48), (80 * number, 20, 20)).save(folder / f"{number}.png")
    (folder / "notes.jpg").write_text("no picture")
    url = postgres_server.create_migrated_database()
    settings = Settings(data_dir=base / "data", database_url=url, broker_url=redis_server.url)
    environment = {
        "RAMQ_DATABASE_URL": url,
        "RAMQ_BROKER_URL": redis_server.url,
        "RAMQ_DATA_DIR": str(settings.data_dir),  # where the index is
    }
    with running_fleet(settings, base) as fleet, client_services(settings) as services:
        fleet.start()
        job = services.jobs.create(str(folder))
        wait_for(services, job.id, fleet, lambda view: view.is_over)
        yield Recorded(job.id, folder, environment)
    postgres_server.drop_database(url)


def assert_one_line(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """The process ended with ``code``, said why in one line on stderr, and printed nothing."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert "Traceback" not in line
    assert [word for word in words if word not in line] == []


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_help_of_every_verb_has_an_example(path: tuple[str, ...]) -> None:
    help_text = COMMANDS[path].help or ""
    assert " ".join(("ramq", *path)) in help_text.partition("Example: ")[2]


@pytest.mark.parametrize("path", [(), ("search",), ("db", "upgrade")], ids=" ".join)
def test_help_is_printed_on_stdout(run: Run, path: tuple[str, ...]) -> None:
    done = run(*path, "--help")
    assert done.returncode == 0
    assert "Example: ramq" in done.stdout
    assert done.stderr == ""


def test_the_version_is_that_of_the_package(run_process: Run) -> None:
    done = run_process("--version")
    assert (done.returncode, done.stdout) == (0, f"ramq {described()}\n")
    assert version("ramq") in done.stdout


def test_a_new_token_is_one_line_and_its_entry_another(run: Run) -> None:
    done = run("token", "new", "ann", "--scope", "write")
    token, entry = done.stdout.splitlines()
    assert (done.returncode, entry) == (0, f"ann:write:sha256:{hashlib.sha256(token.encode()).hexdigest()}")
    assert token not in done.stderr
    assert set(json.loads(run("token", "new", "ann", "--json").stdout)) == {"token", "entry"}


@pytest.mark.parametrize(
    "words",
    [
        ("search", "--colour", "red"),
        ("serch",),
        ("job",),
        ("job", "many"),
        ("jobs", "--before", f"{2**63}"),
        ("tags", "--limit", "0"),
    ],
)
def test_wrong_usage_ends_with_two_and_no_traceback(run: Run, words: tuple[str, ...]) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", NARROWING, ids=" ".join)
def test_what_a_shell_makes_of_a_variable_that_was_never_set_does_not_mean_everything(
    run: Run, words: tuple[str, ...]
) -> None:
    assert_one_line(run(*words, "", *NEEDED.get(words[:-1], ())), 2, f"{words[-1]} is empty")


def test_a_command_without_settings_starts_services_of_its_own(run_process: Run) -> None:
    done = run_process("search", "beach (dog OR", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["items"] == []


@pytest.mark.parametrize("command", ["search", "tags", "export"])
def test_a_query_that_cannot_be_read_is_pointed_into(run: Run, on_services: dict[str, str], command: str) -> None:
    done = run(command, "--strict", "beach (dog OR", **on_services)
    assert (done.returncode, done.stdout) == (2, "")
    text, caret, message = done.stderr.splitlines()
    assert (text, caret) == ("beach (dog OR", " " * 11 + "^")
    assert "OR needs a tag behind it" in message


@pytest.mark.parametrize("command", ["search", "tags", "export"])
@pytest.mark.parametrize("text", ["beach (dog OR", "\udce9 job:x", "x" * 3_000, "(" * 500, 'a "Fuji" apple', "OR"])
def test_no_text_is_refused(run: Run, on_services: dict[str, str], command: str, text: str) -> None:
    as_json = () if command == "export" else ("--json",)
    done = run(command, text, *as_json, **on_services)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    if as_json:
        notes = json.loads(done.stdout)["notes"]
        assert len(done.stderr.splitlines()) == len(notes)
    assert ("Searched as words: job:x." in done.stderr) == ("job:x" in text)
    assert ("Only the first 2,000 characters" in done.stderr) == (len(text) > 2_000)


def test_a_query_narrows_what_every_verb_prints(run: Run, recorded: Recorded) -> None:
    query = "prefix:0 OR prefix:1"
    items = json.loads(run("search", query, "--json", **recorded.environment).stdout)["items"]
    exported = run("export", query, **recorded.environment).stdout.splitlines()
    facets = json.loads(run("tags", query, "--json", **recorded.environment).stdout)["items"]
    assert {item["key"] for item in items} == {json.loads(line)["key"] for line in exported} == {"0.png", "1.png"}
    assert max(facet["count"] for facet in facets) <= 2


def test_an_image_or_an_archive_without_a_name_is_none(run: Run, recorded: Recorded) -> None:
    for words in (("delete", ""), ("delete", "--all", "--archive", " "), ("show", "1", "--archive", " ")):
        assert_one_line(run(*words, **recorded.environment), 2)
    assert_one_line(run("enqueue", "", **recorded.environment), 2, "the source is empty")
    assert run("show", "1", **recorded.environment).returncode == 0
    assert len(json.loads(run("jobs", "--json", **recorded.environment).stdout)["items"]) == 1


@pytest.mark.parametrize("like", [("--like", "1"), ("like:1",)], ids=" ".join)
def test_likeness_ranks_what_is_exported_and_does_not_narrow_what_is_counted(
    run: Run, recorded: Recorded, like: tuple[str, ...]
) -> None:
    found = json.loads(run("search", *like, "--json", **recorded.environment).stdout)["items"]
    exported = run("export", *like, **recorded.environment).stdout.splitlines()
    assert [json.loads(line)["image_id"] for line in exported] == [item["image_id"] for item in found]
    assert len(found) == PICTURES - 1
    counted = run("tags", *like, "--json", **recorded.environment)
    assert counted.stdout == run("tags", "--json", **recorded.environment).stdout


def test_likeness_is_to_one_image(run: Run, recorded: Recorded) -> None:
    for command in ("search", "tags", "export"):
        done = run(command, "like:1", "--like", "2", **recorded.environment)
        assert_one_line(done, 2, "--like and like: cannot be combined")


@pytest.mark.parametrize(("depth", "is_told"), [(PICTURES - 1, True), (PICTURES, False)])
def test_an_export_that_ends_where_rankings_do_says_so(
    run: Run, recorded: Recorded, monkeypatch: pytest.MonkeyPatch, depth: int, is_told: bool
) -> None:
    monkeypatch.setattr("storage.search.query.MAX_OFFSET", depth)
    done = run("export", "like:1", **recorded.environment)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == PICTURES - 1
    assert len(done.stderr.splitlines()) == is_told
    assert (f"Only the best {depth} images" in done.stderr) == is_told


def test_nothing_is_erased_where_no_report_could_be_written(run: Run, recorded: Recorded, tmp_path: Path) -> None:
    erase = ("delete", "1", "--yes", "--json", "--report")
    for file in (tmp_path / "nowhere" / "x.json", tmp_path, tmp_path / ("x" * 300)):
        assert_one_line(run(*erase, str(file), **recorded.environment), 2, "nothing was erased", str(tmp_path))
    assert run("show", "1", **recorded.environment).returncode == 0
    earlier, new = tmp_path / "earlier.json", tmp_path / "new.json"
    earlier.write_text("an earlier report")
    for file in (earlier, new):
        assert_one_line(run("delete", "no such image", "--yes", "--report", str(file), **recorded.environment), 2)
    assert earlier.read_text() == "an earlier report"
    assert not new.exists()


def test_a_deletion_whose_report_is_lost_says_that_it_is_done(run_process: Run, recorded: Recorded) -> None:
    engine = make_engine(recorded.environment["RAMQ_DATABASE_URL"])
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO image (archive_id, key, version, size) SELECT id, 'spare.png', 'v', 1 FROM archive"
        )
    engine.dispose()
    done = run_process(
        "delete", "--prefix", "spare", "--yes", "--json", "--report", "/dev/full", **recorded.environment
    )
    number = json.loads(done.stdout)["deletion_id"]
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"deletion {number} is done" in line
    assert f"ramq erasures {number} --verify --keys --json" in line


def test_arguments_that_no_file_and_no_database_takes_are_one_line(run: Run, recorded: Recorded) -> None:
    assert_one_line(run("search", "--like", "x" * 300, **recorded.environment), 2, "there is no image")
    assert_one_line(run("models", "convert", "x" * 300, "out.safetensors"), 1, "File name too long")
    for words in (("show", "\udcff"), ("vocab", "show", "\udcff"), ("policy", "clear", "\udcff")):
        assert_one_line(run(*words, **recorded.environment), 2, "\\udcff")


def test_a_wrong_setting_is_one_line(run_process: Run) -> None:
    assert_one_line(run_process("jobs", RAMQ_BATCH_SIZE="none"), 2, "RAMQ_BATCH_SIZE")


def test_a_database_that_cannot_be_reached_is_one_line_without_its_password(run_process: Run) -> None:
    done = run_process("jobs", RAMQ_DATABASE_URL="postgresql://ramq:hunter2@127.0.0.1:9/ramq")
    assert_one_line(done, 3, "database")
    assert "hunter2" not in done.stderr


def test_a_database_without_tables_says_what_to_type(run: Run, empty_database_url: str) -> None:
    assert_one_line(run("jobs", RAMQ_DATABASE_URL=empty_database_url), 1, "ramq db upgrade")


def test_a_source_that_is_not_there_is_named(run: Run, on_services: dict[str, str], tmp_path: Path) -> None:
    done = run("enqueue", str(tmp_path / "nowhere"), **on_services)
    assert_one_line(done, 2, "nowhere")


def test_a_job_that_does_not_exist_is_one_line(run: Run, on_services: dict[str, str]) -> None:
    assert_one_line(run("job", "99", **on_services), 2, "99")


def test_every_listing_prints_json_and_nothing_else(run: Run, recorded: Recorded) -> None:
    key = f"{recorded.job_id}"
    for words in (
        ("jobs",), ("job", key), ("failures", key), ("search", "--tag", "tag 1"), ("tags",), ("show", "1"),
        ("archives",), ("generations",), ("workers",), ("index", "status"), ("doctor",),
    ):  # fmt: skip
        done = run(*words, "--json", **recorded.environment)
        assert done.returncode == 0, (words, done.stderr)
        assert json.loads(done.stdout), words


def test_the_counts_that_are_printed_are_those_of_the_job(run: Run, recorded: Recorded) -> None:
    job = json.loads(run("job", str(recorded.job_id), "--json", **recorded.environment).stdout)
    assert (job["listed"], job["done"], job["failed"], job["pending"]) == (PICTURES + 1, PICTURES, 1, 0)
    (failure,) = json.loads(run("failures", str(recorded.job_id), "--json", **recorded.environment).stdout)["items"]
    assert (failure["key"], failure["error_class"]) == ("notes.jpg", "not_an_image")
    exported = run("export", **recorded.environment).stdout.splitlines()
    assert sorted(json.loads(line)["key"] for line in exported) == ["0.png", "1.png", "2.png"]


def test_an_unknown_tag_is_answered_with_near_names(run: Run, recorded: Recorded) -> None:
    assert_one_line(run("search", "--tag", "tagg 12", **recorded.environment), 2, "tagg 12", "tag 12")


def test_a_job_that_ends_with_failures_fails_the_one_who_waited(run_process: Run, recorded: Recorded) -> None:
    more = recorded.folder / "more.jpg"
    more.write_text("no picture either")
    done = run_process("enqueue", str(recorded.folder), "--wait", "--json", **recorded.environment)
    more.unlink()
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["id"] > recorded.job_id


def test_a_reader_that_has_enough_is_no_error(recorded: Recorded) -> None:
    with subprocess.Popen(
        [*COMMAND, "export"], env={**os.environ, **recorded.environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        complaint = process.stderr.read()
        assert process.wait(60) in {0, 1, 141}  # 1: what the library that parses the command line says
    assert complaint == b""


def test_ctrl_c_while_waiting_says_how_to_go_on(on_services: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    # As in a terminal, also where the tests run in the background, whose processes do not hear Ctrl-C.
    hearing = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{hearing}; from ramq.cli.main import main; main()"
    command = [sys.executable, "-c", code, "enqueue", str(folder), "--wait"]
    with subprocess.Popen(
        command, env={**os.environ, **on_services}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        job_id = process.stdout.readline().strip()
        assert job_id.isdecimal()
        assert process.stderr.readline().startswith(f"job {job_id}: 0 of 0")
        # No worker will ever end it; without a terminal, that is told in a line.
        assert "start one with `ramq worker`" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        try:
            _, complaint = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode == 130
    assert "Traceback" not in complaint
    assert f"ramq job {job_id} --watch" in complaint


def test_a_search_by_tags_loads_neither_models_nor_the_queue(recorded: Recorded) -> None:
    heavy = ("torch", "transformers", "timm", "celery", "alembic", "fastapi")
    code = f"""
import sys
sys.argv = ["ramq", "search", "--tag", "tag 1", "--json"]
from ramq.cli.main import main
try:
    main()
finally:
    print(*(name for name in {heavy!r} if name in sys.modules), file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **recorded.environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.split() == []
    assert "items" in json.loads(done.stdout)
