"""A service or package that is not there: a skip on a laptop, a failure where everything must be there."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any, NoReturn

import pytest


def missing(reason: str) -> NoReturn:
    """Skips the test, or fails it when CI=true."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def package(name: str) -> Any:
    """Import a package of ``ramq[dev]``."""
    try:
        return import_module(name)
    except ImportError:
        missing(f"the package {name} is not installed; run `make check`, or pip install {name}")
