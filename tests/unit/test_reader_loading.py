"""A reader is loaded from installed files, quietly and without a network, or an error says what to do."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from ram_core.errors import CheckpointError, DeviceError, UnknownModelError
from ram_core.reading import READERS, load_reader, loading

INSTALLED = Path(next(iter(getattr(find_spec("rapidocr"), "submodule_search_locations", None) or [""]))) / "models"

# Loads a reader and reads, while everything that reaches out or writes is noted.
_WATCHED = """
import logging, sys
seen = []

def audit(event, arguments):
    # Python caches what it compiles, and that is all that may be written.
    writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if writes and ".pyc" not in str(arguments[0]) and "/dev/" not in str(arguments[0]):
        seen.append(f"writes {arguments[0]}")
    if event in {"socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.mkdir"}:
        seen.append(event)

sys.addaudithook(audit)
import numpy as np
from ram_core.reading import load_reader
reader = load_reader()
assert reader.read([np.zeros((40, 40, 3), np.uint8)])[0].lines == ()
log = logging.getLogger("RapidOCR")
assert log.propagate and not log.handlers, log.handlers
assert not logging.getLogger().handlers
print(*seen)
"""


def copied(folder: Path) -> Path:
    """Return a folder of checkpoints with the installed weights in it."""
    own = folder / READERS[0]
    own.mkdir()
    for file in INSTALLED.glob("*.onnx"):
        shutil.copy(file, own)
    return own


def test_loading_and_reading_reach_out_to_nothing_and_say_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", _WATCHED], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, [], "")


def test_an_unknown_reader_is_named_with_those_that_there_are() -> None:
    with pytest.raises(UnknownModelError, match="'tesseract'; known readers: ppocr_v6"):
        load_reader("tesseract")


def test_weights_in_the_folder_of_checkpoints_come_first(tmp_path: Path) -> None:
    installed = load_reader(models_dir=tmp_path).spec
    own = copied(tmp_path)
    assert load_reader(models_dir=tmp_path).spec == installed
    # Another model of the same shape is another reader; these weights differ only in a text beside them.
    (own / "PP-OCRv6_det_small.onnx").write_bytes((own / "PP-OCRv6_det_small.onnx").read_bytes() + b"\x52\x00")
    assert load_reader(models_dir=tmp_path).spec.fingerprint != installed.fingerprint


@pytest.mark.parametrize("file", sorted(path.name for path in INSTALLED.glob("*.onnx")))
def test_missing_and_damaged_weights_are_named(file: str, tmp_path: Path) -> None:
    own = copied(tmp_path)
    (own / file).write_bytes(b"\x00" * 1000)
    with pytest.raises(CheckpointError, match=rf"{file} is damaged .*pip install .ramq\[text\]"):
        load_reader(models_dir=tmp_path)
    (own / file).unlink()
    with pytest.raises(CheckpointError, match=rf"{file} cannot be read .*pip install .ramq\[text\]"):
        load_reader(models_dir=tmp_path)


@pytest.mark.parametrize("package", ["rapidocr", "onnxruntime", "cv2"])
def test_packages_that_are_not_installed_are_named(package: str) -> None:
    # A finder that knows nothing of a package is what an installation without it is.
    code = f"""
import sys

class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {package!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Without())
from ram_core.errors import CheckpointError
from ram_core.reading import load_reader
try:
    load_reader()
except CheckpointError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert package in done.stdout
    assert 'pip install "ramq[text]"' in done.stdout


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "cuda:", ""])
def test_what_is_no_device_is_refused(device: str) -> None:
    with pytest.raises(DeviceError, match="is not a device; use cpu, cuda"):
        load_reader(device=device)


def test_a_gpu_that_the_runtime_has_not_says_what_to_install() -> None:
    import onnxruntime  # noqa: PLC0415  (other tests of this file ask what happens without it)

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this runtime has CUDA")
    with pytest.raises(DeviceError, match="pip install onnxruntime-gpu"):
        load_reader(device="cuda")
    assert loading.providers("auto") == ["CPUExecutionProvider"]


def test_threads_are_those_that_the_environment_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert loading.threads() == 3
    for said in ("", "0", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", said)
        assert loading.threads() == len(loading.os.sched_getaffinity(0))
