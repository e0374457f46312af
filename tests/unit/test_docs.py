"""The documents say what the code does: settings, failure classes, commands, metrics, links."""

from __future__ import annotations

import re
import runpy
import textwrap
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer import Exit
from typer.core import TyperGroup
from typer.exceptions import TyperException
from typer.main import get_command

from ramq.cli.main import command_line
from ramq.settings import Settings
from storage.tables import Base
from tests.documents import DOCS, FENCED, PAGES, ROOT, commands_of, typed
from workers.pipeline import metrics as worker_metrics
from workers.pipeline import retry

_INLINE = re.compile(r"`(ramq [^`\n]+)`")
_MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
_LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)(?:#([^)\s]+))?\)")


# Programs of others, of which only their own manuals know whether a line is right.
ELSEWHERE = frozenset(
    {
        *(
            "accelerate",
            "chown",
            "cp",
            "curl",
            "docker",
            "duckdb",
            "export",
            "helm",
            "kubectl",
            "ls",
            "mkdir",
            "pip",
            "rm",
        ),
        *("sha256sum", "tar", "torchrun"),
    }
)


def text(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def first_cells(page: str) -> set[str]:
    """Names in backticks that stand in the first column of the page's tables."""
    cells = re.findall(r"^\| ([^|]+) \|", page, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def documented() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        content = page.read_text(encoding="utf-8")
        listed = [one.line for one in typed(content)] + _INLINE.findall(FENCED.sub("", content))
        found += [(page.relative_to(ROOT).as_posix(), line.strip()) for line in dict.fromkeys(listed)]
    return found


def check(line: str) -> None:
    """Hold a documented line against what there is. Raises ``TyperException`` for what ramq does not understand."""
    for program, *words in commands_of(line):
        if program == "ramq":
            parse(words)
        elif program == "make":
            targets = [word for word in words if "=" not in word]
            assert set(targets) <= set(re.findall(r"^([a-z]+):", _MAKEFILE, re.MULTILINE)), targets
        elif program == "python":
            assert words[0] == "-m", "a documented python runs a module"
            assert (ROOT / words[1].replace(".", "/")).with_suffix(".py").is_file(), words[1]
        else:
            assert program in ELSEWHERE, f"{program} is not known here: add it to ELSEWHERE if nobody can check it"


@cache
def whole_command_line() -> Any:
    return get_command(command_line())


def parse(words: list[str]) -> None:
    """Parse a command as ``ramq`` would, without running it."""
    command, rest = whole_command_line(), [word for word in words if word != "…"]
    context = command.make_context("ramq", ["a command"])
    while isinstance(command, TyperGroup) and rest:
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None
        command = found
        # With nothing behind it a command is meant, not a call of it.
        arguments = rest if rest or not isinstance(command, TyperGroup) else ["a command"]
        context = command.make_context(name, list(arguments), parent=context, resilient_parsing=not rest)


def test_every_setting_is_documented_and_every_documented_one_exists() -> None:
    documented = {name for name in first_cells(text("operations.md")) if name.startswith("RAMQ_")}
    known = {f"RAMQ_{name.upper()}" for name in Settings.model_fields} | {"RAMQ_CONFIG", "RAMQ_MODELS_MIRROR"}
    assert documented == known


def test_documented_defaults_are_the_ones_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"RAMQ_{name.upper()}", raising=False)
    rows = re.findall(r"^\| `RAMQ_([A-Z0-9_]+)` \| `([^`]+)` \|", text("operations.md"), re.MULTILINE)
    assert len(rows) >= 10
    settings = Settings()
    for name, shown in rows:
        value = getattr(settings, name.lower())
        if isinstance(value, tuple):
            assert ",".join(value) == shown, name
            continue
        if isinstance(value, bool):
            assert str(value).lower() == shown, name
            continue
        assert str(value) == shown.replace(",", "") or float(value) == float(shown.replace(",", "")), name


def test_every_failure_class_is_documented_and_every_documented_one_exists() -> None:
    page = text("errors.md").partition("## Failure classes")[2].partition("\n## ")[0]
    assert first_cells(page) == set(retry.codes())


def test_what_stops_a_worker_is_documented() -> None:
    page = text("errors.md").partition("## What makes a worker unfit")[2].partition("\n## ")[0]
    unfit = {verdict.code for verdict in retry._TABLE.values() if verdict.action is retry.Action.UNFIT}
    assert first_cells(page) == unfit | {"disk_full", "out_of_memory"}
    assert "`device_lost`" in text("errors.md").partition("## What ends a worker")[2]


def test_every_metric_is_documented() -> None:
    source = (ROOT / "ramq/web/metrics.py").read_text(encoding="utf-8")
    source += Path(worker_metrics.__file__).read_text(encoding="utf-8")
    names = set(re.findall(r'"(ramq_[a-z_]+)"', source))
    assert names
    assert names <= {name.partition("{")[0] for name in first_cells(text("operations.md"))}


@pytest.mark.parametrize(("page", "line"), documented())
def test_a_documented_command_is_one_that_there_is(page: str, line: str) -> None:
    try:
        check(line)
    except Exit:  # an option that prints something, and that is all
        pass
    except TyperException as error:
        pytest.fail(f"{page}: {line}: {error}")


def test_the_check_of_commands_notices_wrong_ones() -> None:
    wrong = ["ramq serach cat", "ramq search --colour red", "ramq index mend", "ramq job one"]
    wrong += [
        "RAMQ_MODEL=ram ramq seek",
        "cp a b && ramq seek",
        "ramq jobs | ramq seek",
        "ramq jobs > jobs.txt; ramq seek",
    ]
    for line in wrong:
        with pytest.raises(TyperException):
            check(line)
    for line in ("make coffee", "python -m benchmarks.bench_nothing", "ducker compose up"):
        with pytest.raises(AssertionError):
            check(line)


def test_the_check_of_commands_reads_blocks_as_a_person_does() -> None:
    page = "```sh\nramq jobs \\\n  --limit 5   # few\n```\n"
    page += "* a point\n\n  ```console\n  $ ramq tags\n  ramq: said\n  ```\n"
    lines = typed(page)
    assert [commands_of(one.line) for one in lines] == [[["ramq", "jobs", "--limit", "5"]], [["ramq", "tags"]]]
    assert [one.answer for one in lines] == [None, "ramq: said\n"]


def test_commands_stand_in_blocks_that_are_checked() -> None:
    unchecked = [
        f"{page.name}: {line}"
        for page in PAGES
        for language, block in FENCED.findall(page.read_text(encoding="utf-8"))
        for line in textwrap.dedent(block).splitlines()
        if language not in {"sh", "console"} and re.match(r"(\$|ramq|make|docker|python) ", line)
    ]
    assert unchecked == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_between_documents_lead_somewhere(page: Path) -> None:
    for target, anchor in _LINK.findall(page.read_text(encoding="utf-8")):
        path = (page.parent / target).resolve()
        assert path.exists(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"{page.name} links to {target}#{anchor}"


def test_the_index_of_documents_lists_every_document() -> None:
    index = text("README.md")
    missing = [
        name
        for page in DOCS.rglob("*.md")
        if (name := page.relative_to(DOCS).as_posix()) != "README.md" and f"]({name})" not in index
    ]
    assert missing == []


def test_files_that_documents_name_are_there() -> None:
    tops = "ramq|ram_core|storage|workers|migrations|tests|benchmarks|docs|docker|requirements"
    pattern = re.compile(rf"`((?:{tops})/[\w./-]+\.(?:py|json|txt|md|env|jpg))`")
    gone = [
        f"{page.name}: {name}"
        for page in PAGES
        for name in pattern.findall(page.read_text(encoding="utf-8"))
        if not (ROOT / name).exists()
    ]
    assert gone == []


def test_every_table_is_documented() -> None:
    tables = text("ARCHITECTURE.md").partition("## Tables")[2].partition("\n## ")[0]
    assert first_cells(tables) == set(Base.metadata.tables)


def test_pages_have_no_placeholders() -> None:
    for page in PAGES:
        found = re.findall(r"\b(?:[A-Z]+_TABLE|TODO|FIXME|XXX)\b", page.read_text(encoding="utf-8"))
        assert found == [], page.name


@cache
def references() -> dict[str, str]:
    made: dict[str, str] = runpy.run_path(str(DOCS / "references.py"))["pages"]()
    return made


@pytest.mark.parametrize("name", ["api.md", "cli.md"])
def test_a_reference_says_what_the_code_says(name: str) -> None:
    assert text(name) == references()[name], "run `make reference`"
