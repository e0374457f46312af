"""The habits of this project that a machine can hold."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from storage.errors import FatalError, PermanentError, RamqError, TransientError
from workers.pipeline import retry

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("ramq", "ram_core", "storage", "workers", "migrations")

MAY_COMMIT = {"storage/database.py", "storage/migrate.py"}

# Where the environment may be read, with the day and the reason.
MAY_READ_ENVIRONMENT = {
    "ramq/settings.py": "2026-11-21: the one reader of RAMQ_*",
    "ramq/stack.py": "2026-11-21: worker processes inherit it",
    "ramq/embedded/client.py": "2026-11-21: the supervisor inherits it",
    "ramq/embedded/postgres.py": "2026-11-21: servers inherit it, less what would steer them",
    "ramq/database_programs.py": "2026-11-30: programs of PostgreSQL inherit it",
    "ramq/span_answers.py": "2026-11-30: whether the exporter takes its connection from elsewhere, an OTEL_* variable",
    "ram_core/reading/loading.py": "2026-11-28: OMP_NUM_THREADS, which ONNX Runtime does not read by itself",
}

# What may speak to a database outside storage, with the day and the reason.
MAY_SPEAK_SQL = {"ramq/embedded/postgres.py": "2026-11-28: asks the server that it started whether it is up"}

MAX_LINES = 400

MAX_BODY_LINES = 60
LONGER_FUNCTIONS = {
    "migrations/versions/0001_the_first_schema.py:upgrade": "2026-11-21: a schema reads best in one piece",
}


@cache
def tracked() -> tuple[str, ...]:
    """Every file under version control."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    return tuple(name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file())


@cache
def modules() -> tuple[tuple[str, ast.Module], ...]:
    """Every module of the product, with its tree."""
    return tuple(
        (path.relative_to(ROOT).as_posix(), ast.parse(path.read_text()))
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    )


def commits(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = ast.unparse(node.func.value).lower()
            is_transaction = any(word in owner for word in ("session", "engine", "connection"))
            if node.func.attr == "commit" or (node.func.attr in {"begin", "begin_nested"} and is_transaction):
                yield node.lineno


def environment_reads(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv", "environb"}:
            yield from (node.lineno for owner in [node.value] if isinstance(owner, ast.Name) and owner.id == "os")
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            yield from (node.lineno for name in node.names if name.name in {"environ", "getenv"})


def long_functions(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            if body and (body[-1].end_lineno or 0) - body[0].lineno + 1 > MAX_BODY_LINES:
                yield node.name


def leaves(kind: type[RamqError]) -> Iterator[type[RamqError]]:
    for child in kind.__subclasses__():
        yield from leaves(child) if child.__subclasses__() else (child,)


def test_transactions_are_committed_in_one_place() -> None:
    found = {f"{name}:{line}" for name, tree in modules() if name not in MAY_COMMIT for line in commits(tree)}
    assert found == set()


def test_a_commit_would_be_seen() -> None:
    tree = ast.parse("session.commit()\nwith engine.begin() as c: pass\nplanner.begin()")
    assert list(commits(tree)) == [1, 2]


def sql_imports(tree: ast.Module) -> Iterator[str]:
    """Names with which statements are written; the libraries' types and errors are free."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in {"sqlalchemy", "psycopg"}:
            names = (alias.name for alias in node.names)
            yield from (name for name in names if name not in {"Engine", "Session"} and not name.endswith("Error"))
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith(("sqlalchemy", "psycopg")))


def test_statements_are_written_in_storage() -> None:
    found = {
        name: list(sql_imports(tree))
        for name, tree in modules()
        if name not in MAY_SPEAK_SQL and not name.startswith(("storage/", "migrations/"))
    }
    assert {name: imports for name, imports in found.items() if imports} == {}
    assert list(sql_imports(ast.parse("from sqlalchemy import Engine, text"))) == ["text"]


def test_the_environment_is_read_at_the_edge() -> None:
    readers = {name for name, tree in modules() if any(environment_reads(tree))}
    assert readers == set(MAY_READ_ENVIRONMENT)


def test_files_stay_short() -> None:
    lengths = {name: len((ROOT / name).read_text().splitlines()) for name in tracked() if name.endswith(".py")}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_functions_stay_short() -> None:
    found = {f"{name}:{function}" for name, tree in modules() for function in long_functions(tree)}
    assert found == set(LONGER_FUNCTIONS)


def test_no_statement_is_sent_as_a_pipeline() -> None:
    """After one, PostgreSQL does not end an idle transaction; the engine sends many rows one by one."""
    found = {
        f"{name}:{node.lineno}"
        for name, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in {"executemany", "pipeline"} and name.startswith("storage/")
    }
    assert found == set()


# A violation is what one of our own modules does while it is being imported, not what a library does.
_IMPORT_ALL = f"""
import os, pkgutil, sys, threading
root, packages = {str(ROOT)!r}, {PACKAGES[:4]!r}
sys.dont_write_bytecode = True
seen = []

def ours():
    frame = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if "site-packages" in file:
            return None
        if file.startswith(tuple(os.path.join(root, package) + os.sep for package in packages)):
            return f"{{file}}:{{frame.f_lineno}}"
        frame = frame.f_back

def audit(event, arguments):
    writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if writes or event in {{"socket.connect", "socket.bind", "subprocess.Popen", "os.mkdir", "os.remove", "os.rename"}}:
        if place := ours():
            seen.append(f"{{place}} {{event}} {{arguments[:1]}}")

class Environment(type(os.environ)):
    def __getitem__(self, key):
        if key.startswith("RAMQ_") and (place := ours()):
            seen.append(f"{{place}} reads {{key}}")
        return super().__getitem__(key)

os.environ.__class__ = Environment
sys.addaudithook(audit)
for package in packages:
    __import__(package)
    for module in pkgutil.walk_packages(sys.modules[package].__path__, package + "."):
        __import__(module.name)
for thread in threading.enumerate():
    if thread is not threading.main_thread():
        seen.append(f"thread {{thread.name}}")
print("\\n".join(seen), end="")
"""


@pytest.mark.slow
def test_importing_any_module_does_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT_ALL], cwd=ROOT, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    "module", ["ramq.cli.main", "workers.messages", "ramq.settings", "ramq.wiring", "ramq.client", "ramq.services.jobs"]
)
def test_a_light_module_loads_nothing_heavy(module: str) -> None:
    heavy = ("torch", "transformers", "timm", "celery", "alembic", "faiss", "fastapi", "boto3", "pyarrow")
    heavy += ("numpy", "PIL", "redis", "starlette", "structlog", "rich", "pydantic_settings")
    code = f"import sys, {module}; print(*(name for name in {heavy!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_every_error_that_a_stage_may_raise_has_a_verdict_of_its_own() -> None:
    raised_elsewhere = {"EmbeddedError", "DownloadError"}  # at a start or on the command line, never over an image
    nameless = {
        leaf.__qualname__
        for family in (TransientError, PermanentError, FatalError)
        for leaf in leaves(family)
        if leaf.__module__.startswith(("storage.", "workers.", "ramq.kit."))
        and leaf not in retry._TABLE
        and leaf.__name__ not in raised_elsewhere
    }
    assert nameless == set()


def test_codes_of_errors_are_words_that_a_shell_needs_not_quote() -> None:
    assert [code for code in retry.codes() if not re.fullmatch(r"[a-z][a-z_]*", code)] == []


def test_no_file_speaks_of_the_machine_it_was_written_on() -> None:
    # Brackets keep this line from finding itself.
    words = re.compile(r"/(?:home|Users|wor[k])/\w+|pyp[i]\.org|debia[n]\.org|npmj[s]\.")
    found = set()
    for name in tracked():
        if Path(name).suffix in {".py", ".md", ".toml", ".txt", ".yml", ".sh", ".html", ".env", ".json", ""}:
            text = (ROOT / name).read_text(errors="replace")
            found |= {f"{name}: {match.group()}" for match in words.finditer(text)}
    assert found == set()


def test_every_file_of_results_that_a_document_names_exists() -> None:
    named = {
        (document, path)
        for document in tracked()
        if document.endswith(".md")
        for path in re.findall(r"benchmarks/results/[\w.-]+\.json", (ROOT / document).read_text())
    }
    assert {(document, path) for document, path in named if not (ROOT / path).is_file()} == set()
