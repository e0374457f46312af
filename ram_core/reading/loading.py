"""From installed files to a reader. Nothing is downloaded."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ram_core.checkpoints import store
from ram_core.errors import CheckpointError, DeviceError, UnknownModelError
from ram_core.reading import READERS
from ram_core.reading.reader import Reader
from ram_core.reading.results import ReaderSpec
from ram_core.transforms import ReadingTransform

_INSTALL = 'pip install "ramq[text]"'
_NAME = "ppocr_v6"
_GPU = re.compile(r"auto|cuda(?::(\d+))?")
_DETECTION, _RECOGNITION, _DIRECTION = _FILES = (
    "PP-OCRv6_det_small.onnx",
    "PP-OCRv6_rec_small.onnx",
    "ch_ppocr_mobile_v2.0_cls_mobile.onnx",
)
# How the reader uses its models, for the fingerprint. Whoever changes what it returns must change this.
_METHOD = "v1"


def load(name: str, *, device: str, models_dir: Path | None) -> Reader:
    """Load a reader; see ``ram_core.reading.load_reader``."""
    if name not in READERS:
        raise UnknownModelError(f"unknown reader {name!r}; known readers: {', '.join(READERS)}")
    folder = _folder(models_dir)
    paths = {file: folder / file for file in _FILES}
    if name != _NAME:  # detection and direction are the same for all scripts
        if models_dir is None:
            raise CheckpointError(f"the reader {name} has to be pulled first: ramq models pull {name}")
        (paths[_RECOGNITION],) = store.find(name, models_dir).values()
    contents = {file: _content(path) for file, path in paths.items()}
    digest = hashlib.sha256()
    for content in contents.values():
        digest.update(hashlib.sha256(content).digest())
    try:
        from ram_core.reading.detection import Detector  # noqa: PLC0415  (OpenCV and rapidocr load here)
        from ram_core.reading.recognition import Recognizer  # noqa: PLC0415
    except ImportError as error:
        raise CheckpointError(f"reading text needs a package that is not installed ({error}): {_INSTALL}") from error
    _silence()
    where = providers(device)
    detection, recognition, direction = (_session(paths[file], contents[file], where) for file in _FILES)
    characters = recognition.get_modelmeta().custom_metadata_map.get("character", "").splitlines()
    if not characters:
        raise CheckpointError(f"{paths[_RECOGNITION]} has no list of characters; install it again: {_INSTALL}")
    preprocessing = ReadingTransform()
    spec = ReaderSpec(name, digest.hexdigest(), f"{preprocessing.name}-{_METHOD}")
    return Reader(spec, preprocessing, Detector(detection), Recognizer(recognition, direction, characters))


def _folder(models_dir: Path | None) -> Path:
    """Return the folder that has the weights."""
    if models_dir is not None and (own := Path(models_dir) / _NAME).is_dir():
        return own
    try:
        installed = find_spec("rapidocr")
    except ModuleNotFoundError:
        installed = None
    if installed is None or not installed.submodule_search_locations:
        raise CheckpointError(f"reading text needs the package rapidocr, which is not installed: {_INSTALL}")
    return Path(installed.submodule_search_locations[0]) / "models"


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); install it again: {_INSTALL}") from error


def _silence() -> None:
    """Send rapidocr's messages where the application sends its own: the library writes them to the console itself."""
    log = logging.getLogger("RapidOCR")
    log.handlers.clear()
    log.propagate = True
    log.setLevel(logging.WARNING)


def providers(device: str) -> list[Any]:
    """Return what ONNX Runtime calls the device.

    Raises:
        DeviceError: the text names no device, or one that the runtime does not have.
        CheckpointError: the runtime is not installed.
    """
    try:
        import onnxruntime  # noqa: PLC0415
    except ImportError as error:
        raise CheckpointError(f"reading text needs onnxruntime, which is not installed: {_INSTALL}") from error
    has_cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if device == "cpu" or (device == "auto" and not has_cuda):
        return ["CPUExecutionProvider"]
    named = _GPU.fullmatch(device)
    if named is None:
        raise DeviceError(f"{device!r} is not a device; use cpu, cuda, cuda:0, … or auto")
    if not has_cuda:
        raise DeviceError(
            "this ONNX Runtime has no CUDA: pip uninstall onnxruntime, then pip install onnxruntime-gpu; or use cpu"
        )
    return [("CUDAExecutionProvider", {"device_id": int(named[1] or 0)})]


def _session(path: Path, content: bytes, where: list[Any]) -> Any:
    import onnxruntime  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads()
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # decoders need the cores too
    options.enable_cpu_mem_arena = False  # it keeps the memory of the largest picture, for every shape
    try:
        session = onnxruntime.InferenceSession(content, options, providers=where)
    except Exception as error:  # the runtime raises classes of its own, one for each kind of damage
        raise CheckpointError(f"{path} is damaged ({type(error).__name__}); install it again: {_INSTALL}") from error
    wanted = where[0][0] if isinstance(where[0], tuple) else where[0]
    if wanted not in session.get_providers():
        raise DeviceError(f"ONNX Runtime could not start {wanted}: CUDA or cuDNN is missing or too old; or use cpu")
    return session


def threads() -> int:
    """Return as many threads as OMP_NUM_THREADS says, or as many as there are cores for this process."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    if said.isdecimal() and int(said):
        return int(said)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
