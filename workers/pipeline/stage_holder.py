"""The models of further stages in this process, each loaded when the first job needs it."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from ram_core.errors import DeviceError, ModelError
from storage.results import generations
from workers.pipeline.fitness import EVERYTHING, UnfitError, is_out_of_memory, of_model, out_of_memory
from workers.stages import STAGES, StageKind

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from sqlalchemy.orm import Session

    from storage.ledger.claims import ClaimedShard
    from workers.stages import StageModel, StageOptions

_READ = {".safetensors", ".pth", ".bin", ".onnx", ".json", ".txt"}
"""Endings of the files that make a model. Those that a pull keeps for itself have others."""

log = structlog.get_logger()


class StageHolder:
    """Loads the models of stages. Thread-safe.

    Args:
        options: settings of the stages.
        names: the stages that this worker shall do. Those whose packages are not installed are left out.
    """

    def __init__(self, options: StageOptions, names: Iterable[str] = ()) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._loaded: dict[str, StageModel] = {}
        self._files: dict[str, object] = {}  # what the folders of the loaded models had, by stage
        self.kinds: dict[str, StageKind] = {name: STAGES[name] for name in names if STAGES[name].is_installed()}

    def get(self, name: str, model: str) -> StageModel:
        """Return a model of a stage. Load it in place of another one of the stage if necessary.

        Raises:
            UnfitError: it cannot be loaded here; the message says what to do.
        """
        with self._lock:
            loaded = self._loaded.get(name)
            if loaded is None or loaded.spec.model != model:
                self._loaded.pop(name, None)  # before the next one is loaded: two may not fit into memory
                self._files[name] = files_of(model, self._options.models_dir)
                loaded = self._loaded[name] = self._load(STAGES[name], model)
            return loaded

    def get_new(self, name: str, model: str) -> StageModel:
        """Return a model for a new job: as its files are now, even if it was loaded from others. Raises as ``get``."""
        with self._lock:
            if name in self._loaded and self._files.get(name) != files_of(model, self._options.models_dir):
                del self._loaded[name]
        return self.get(name, model)

    def get_for(self, shard: ClaimedShard) -> StageModel:
        """Return the model of a shard's job.

        Raises:
            UnfitError: it cannot be loaded here, or has other weights than when the job began.
        """
        model = self.get(shard.stage, shard.model)
        if model.spec.fingerprint != shard.fingerprint:
            raise UnfitError(
                of_model(shard.model),
                f"the files of {shard.model} were replaced while job {shard.job_id} ran: put the former ones back, or "
                "cancel it and start a new one",
            )
        return model

    def _load(self, kind: StageKind, model: str) -> StageModel:
        log.info("loading model", model=model, stage_of_job=kind.name, device=self._options.device)
        try:
            return kind.load(model, self._options)
        except ModelError as error:
            raise UnfitError(EVERYTHING if isinstance(error, DeviceError) else of_model(model), str(error)) from error
        except Exception as error:
            if is_out_of_memory(error):
                raise UnfitError(of_model(model), out_of_memory(model, error)) from error
            raise

    def register(self, session: Session, name: str, model: str) -> int:
        """Return the id of a stage's generation. It cannot be dropped before the transaction ends."""
        return generations.ensure_of_stage(session, self.get(name, model).spec)


def files_of(model: str, models_dir: Path) -> object:
    """Return what changes when a model's files are replaced: their names, sizes and times."""
    found = []
    for part in model.split("+"):
        for file in (models_dir / part).glob("*"):
            with suppress(FileNotFoundError):  # just replaced
                told = file.stat()
                if file.suffix in _READ:
                    found.append((part, file.name, told.st_size, told.st_ino, told.st_mtime_ns))
    return sorted(found)
