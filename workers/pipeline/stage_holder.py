"""The models of further stages in this process, each loaded when the first job needs it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import structlog

from ram_core.errors import DeviceError, ModelError
from storage.results import generations
from workers.pipeline.fitness import EVERYTHING, UnfitError, is_out_of_memory, of_model, out_of_memory
from workers.stages import STAGES, StageKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.orm import Session

    from workers.stages import StageModel, StageOptions

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
        self.kinds: dict[str, StageKind] = {name: STAGES[name] for name in names if STAGES[name].is_installed()}

    def get(self, name: str) -> StageModel:
        """Return the model of a stage.

        Raises:
            UnfitError: it cannot be loaded here; the message says what to do.
        """
        with self._lock:
            if name not in self._loaded:
                self._loaded[name] = self._load(STAGES[name])
            return self._loaded[name]

    def _load(self, kind: StageKind) -> StageModel:
        log.info("loading model", model=kind.model, stage_of_job=kind.name, device=self._options.device)
        try:
            return kind.load(self._options)
        except ModelError as error:
            raise UnfitError(
                EVERYTHING if isinstance(error, DeviceError) else of_model(kind.model), str(error)
            ) from error
        except Exception as error:
            if is_out_of_memory(error):
                raise UnfitError(of_model(kind.model), out_of_memory(kind.model, error)) from error
            raise

    def register(self, session: Session, name: str) -> int:
        """Return the id of a stage's generation. It cannot be dropped before the transaction ends."""
        return generations.ensure_of_stage(session, self.get(name).spec)
