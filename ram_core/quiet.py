"""Transformers without its remarks while it loads weights."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from transformers import logging as transformers_logging

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from listing weights that are not used, and from drawing a progress bar.

    Weights that lack are looked at by the caller.
    """
    level, has_bar = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if has_bar:
            transformers_logging.enable_progress_bar()
