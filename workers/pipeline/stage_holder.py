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

    from storage.ledger.claims import ClaimedShard
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

    def get(self, name: str, model: str) -> StageModel:
        """Return a model of a stage. Load it in place of another one of the stage if necessary.

        Raises:
            UnfitError: it cannot be loaded here; the message says what to do.
        """
        with self._lock:
            loaded = self._loaded.get(name)
            if loaded is None or loaded.spec.model != model:
                self._loaded.pop(name, None)  # before the next one is loaded: two may not fit into memory
                loaded = self._loaded[name] = self._load(STAGES[name], model)
            return loaded

    def get_for(self, shard: ClaimedShard) -> StageModel:
        """Return the model of a shard's job. Raises ``UnfitError``."""
        return self.get(shard.stage, shard.model)

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
