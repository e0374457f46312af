"""The image without CUDA: built from an index that has torch for CPUs alone, made from a wheel that is here."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path

from tests.containers.podman import run
from tests.containers.stand_ins import ROOT, build, pip_configuration, python_base

WORKER = "localhost/ramq-cpu:latest"
_BUILT = re.compile(r"torch-([0-9.]+)\+cpu-cp311-cp311-\w*x86_64\.whl")


def wheel() -> Path | None:
    """Return a build of torch for CPUs alone from the folders that pip knows, or None."""
    folders = pip_configuration().get("find-links", "").split()
    found = [path for folder in folders if Path(folder).is_dir() for path in Path(folder).iterdir()]
    return max((path for path in found if _BUILT.fullmatch(path.name)), default=None)


def make(torch: Path) -> None:
    """Build the worker's image with that torch. The lock's torch is replaced by its version, since no other is here.

    torchvision for CPUs is nowhere here. The index has the one with CUDA, which cannot be imported: `lite` needs none.
    """
    python_base()
    version = _BUILT.fullmatch(torch.name)
    assert version is not None
    with tempfile.TemporaryDirectory(prefix="ramq-cpu-") as temporary:
        index = Path(temporary) / "index"
        for path in (_copied(torch, index), _torchvision(index)):
            page = path.parent / "index.html"
            page.write_text(f'<a href="{path.name.replace("+", "%2B")}">{path.name}</a>\n')
        source = Path(temporary) / "source"
        ignored = shutil.ignore_patterns(".*", "build", "tests", "benchmarks", "docs", "demo-data")
        shutil.copytree(ROOT, source, ignore=ignored)
        shutil.copy2(ROOT / ".dockerignore", source)
        lock = source / "requirements" / "run.txt"
        lock.write_text(re.sub(r"^torch==[0-9.]+", f"torch=={version[1]}", lock.read_text(), flags=re.MULTILINE))
        options = ("--build-arg=TORCH_INDEX=file:///torch-index", f"--volume={index}:/torch-index:ro")
        build(source, "worker", WORKER, options)


def _copied(path: Path, index: Path) -> Path:
    folder = index / "torch"
    folder.mkdir(parents=True)
    return Path(shutil.copy2(path, folder))


def _torchvision(index: Path) -> Path:
    folder = index / "torchvision"
    pinned = re.search(r"^torchvision==[0-9.]+", (ROOT / "requirements" / "run.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    run([sys.executable, "-m", "pip", "download", "--no-deps", f"--dest={folder}", pinned[0]], seconds=600)
    (path,) = folder.glob("*.whl")
    return path
