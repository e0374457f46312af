"""Where models of recognition come from, where they run, and in which number format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ram_core.trained import SEPARATOR

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from ram_core.tag_precision import TagPrecision


LARGE = frozenset({"ram", "ram_plus"})


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Where models come from and where they run."""

    device: str
    models_dir: Path
    cache_dir: Path
    precision: str = "auto"
    compiled: bool = False
    recorded: bool = False

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments for ``load_model``, but for the number format."""
        from ram_core.registry import resolve_device  # noqa: PLC0415

        return {"device": resolve_device(self.device), "models_dir": self.models_dir, "cache_dir": self.cache_dir}

    def speed_ups(self, name: str) -> dict[str, bool]:
        """Return what else to tell ``load_model``: on a GPU, large models may be compiled and recorded."""
        from ram_core.registry import resolve_device  # noqa: PLC0415

        is_large = name.partition(SEPARATOR)[0] in LARGE
        if not is_large or resolve_device(self.device).type != "cuda":
            return {}
        return {"compiled": self.compiled, "recorded": self.recorded}

    def chosen(self, name: str) -> TagPrecision:
        """Return the number format of a model here.

        Raises:
            DeviceError: the device is missing, or the format is not for it.
        """
        from ram_core.registry import resolve_device  # noqa: PLC0415
        from ram_core.tag_precision import choose_for_tags  # noqa: PLC0415

        return choose_for_tags(self.precision, resolve_device(self.device), model=name)
