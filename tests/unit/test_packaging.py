"""What an installation gets: the right index library, every file, and exactly the versions that were locked."""

from __future__ import annotations

import email
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from email.message import Message

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = {"run": None, "gpu": "gpu", "demo": "demo", "dev": "dev"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(folder)]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def head() -> str:
    """The commit of this checkout as ``ramq --version`` names it; empty where this is not one."""
    describe = ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty"]
    if not (ROOT / ".git").exists():
        return ""
    return subprocess.run(describe, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(archive.read(name))


def requirements(metadata: Message, extra: str = "") -> set[str]:
    """Names that pip would install for ``ramq`` or ``ramq[extra]``: markers are evaluated for the extra asked for."""
    found = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    return {each.name for each in found if each.marker is None or each.marker.evaluate({"extra": extra})}


def locked(name: str) -> dict[str, str]:
    """Version by name of every package in a lock."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    pins = re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==([\w.!+-]+)", text, re.MULTILINE)
    return {canonicalize_name(package): version for package, version in pins}


def test_the_index_runs_on_the_processor_unless_the_gpu_is_asked_for(metadata: Message) -> None:
    assert requirements(metadata) & {"faiss-cpu", "faiss-gpu"} == {"faiss-cpu"}
    assert requirements(metadata, "gpu") & {"faiss-cpu", "faiss-gpu"} == {"faiss-gpu"}


def test_the_locks_agree_about_the_index() -> None:
    assert {name: sorted(locked(name).keys() & {"faiss-cpu", "faiss-gpu"}) for name in LOCKS} == {
        "run": ["faiss-cpu"],
        "gpu": ["faiss-gpu"],
        "demo": ["faiss-cpu"],
        "dev": ["faiss-cpu"],
    }


@pytest.mark.parametrize(("name", "extra"), LOCKS.items())
def test_a_lock_holds_every_dependency_in_a_version_that_is_allowed(name: str, extra: str | None) -> None:
    pins = locked(name)
    wanted = PROJECT["dependencies"] + (PROJECT["optional-dependencies"][extra] if extra else [])
    for requirement in map(Requirement, wanted):
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra or ""}):
            assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_hashes_and_no_addresses(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    entries = re.split(r"\n(?=[a-z0-9])", text.strip())
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert "://" not in text


def test_the_wheel_holds_every_file_of_its_packages(wheel: Path) -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a clone")
    packages = ("ramq/", "ram_core/", "storage/", "workers/", "migrations/")
    wanted = {name for name in listed.stdout.splitlines() if name.startswith(packages) and (ROOT / name).is_file()}
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    assert wanted - held == set()
    for needed in ("migrations/script.py.mako", "ramq/web/templates/base.html", "ramq/web/static/app.css"):
        assert needed in held
    assert {f"{package}py.typed" for package in packages[:4]} <= held
    assert [name for name in held if name.startswith(("tests/", "benchmarks/"))] == []


def test_the_source_archive_holds_what_its_own_tests_need(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    listing = subprocess.run(["tar", "-tzf", str(archive)], check=True, capture_output=True, text=True).stdout
    held = {name.partition("/")[2] for name in listing.splitlines()}
    assert {
        "Makefile",
        "requirements/dev.txt",
        "examples/library.py",
        "tests/conftest.py",
        "docker-compose.yml",
        "LICENSE",
    } <= held


def test_a_wheel_built_from_the_source_archive_names_the_same_commit(head: str, tmp_path: Path) -> None:
    if not head:
        pytest.skip("not a clone")
    build = [sys.executable, "-m", "hatchling", "build", "-d", str(tmp_path)]
    subprocess.run([*build, "-t", "sdist"], cwd=ROOT, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    subprocess.run(["tar", "-xzf", str(archive), "-C", str(tmp_path)], check=True)
    (source,) = (path for path in tmp_path.iterdir() if path.is_dir())
    subprocess.run([*build, "-t", "wheel"], cwd=source, check=True, capture_output=True)
    (built,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(built) as contents:
        assert contents.read("ramq/commit.txt").decode().strip() == head


def test_the_wheel_works_where_the_source_is_not(wheel: Path, head: str, tmp_path: Path) -> None:
    target = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target", str(target)]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(target)}

    def python(code: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert python("import ramq.cli.main as m; print(m.__file__)").startswith(str(target))
    shown = python("import sys; sys.argv = ['ramq', '--version']; import ramq.cli.main as m; m.main()")
    assert shown == f"ramq {PROJECT['version']} ({head or 'commit unknown'})"
    assert python("from storage import revision; print(revision.head())")
    assert python("from ramq.web.render import WEB; print((WEB / 'static' / 'app.css').is_file())") == "True"


@pytest.mark.parametrize(
    ("said", "code", "expected"),
    [
        ("No known vulnerabilities found", 0, 0),
        ("Found 2 known vulnerabilities in 1 package", 1, 1),
        ("some: Dependency not found on PyPI and could not be audited: some (1.0)", 1, 3),
        ("requests.exceptions.ConnectionError: no route to host", 1, 3),
    ],
)
def test_an_audit_tells_packages_that_are_harmless_from_those_nobody_could_look_up(
    tmp_path: Path, said: str, code: int, expected: int
) -> None:
    auditor = tmp_path / "pip-audit"
    auditor.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit {code}\n")
    auditor.chmod(0o755)
    script = ROOT / "requirements" / "audit.sh"
    done = subprocess.run(["sh", str(script), str(auditor)], capture_output=True, text=True, check=False)
    assert done.returncode == expected, done.stdout
    assert (said in done.stdout) == (code != 0)
