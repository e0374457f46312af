"""The embeddings of lite's class names, made once for all tests: they depend on installed files alone."""

from __future__ import annotations

import fcntl
from pathlib import Path

from ram_core import load_model

KEPT = Path(__file__).resolve().parents[2] / ".pytest_cache" / "ramq-embeddings"


def with_embeddings(data_dir: Path) -> Path:
    """Put the embeddings where a stack in ``data_dir`` looks for them, and return ``data_dir``."""
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not any(KEPT.glob("*.npy")):
            load_model("lite", cache_dir=KEPT)
    cache = data_dir / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    for path in KEPT.glob("*.npy"):
        if not (cache / path.name).exists():
            (cache / path.name).symlink_to(path)
    return data_dir
