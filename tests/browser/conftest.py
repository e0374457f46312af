"""A real browser, with and without scripts, on a real server over a recognised archive."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Error, expect, sync_playwright

from ramq.wiring import Services
from tests.services.missing import missing
from tests.services.recognised import settings_for
from tests.services.web import described_once, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page
    from sqlalchemy import Engine

PATIENCE_MS = 20_000
"""For what is waited for: other work may run beside the tests, and a test fails when it does not come at all."""
expect.set_options(timeout=PATIENCE_MS)

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session", autouse=True)
def _described_once() -> Iterator[None]:
    with described_once():
        yield


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        missing("no chromium is installed: apt-get install chromium")
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        except Error as error:
            missing(f"{program} does not start: {error.message.splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def thumbnails(stage: Path) -> Path:
    """The folder of thumbnails. All tests show the same photographs; each would start decoders of its own for them."""
    folder = stage / "thumbnails"
    folder.mkdir()
    return folder


@pytest.fixture
def services(recognised_engine: Engine, tmp_path: Path, broker_url: str, thumbnails: Path) -> Services:
    settings = settings_for(tmp_path / "data")
    settings.cache_path.mkdir(parents=True)
    (settings.cache_path / "thumbnails").symlink_to(thumbnails)
    return Services(settings, recognised_engine, broker_url, is_reachable=False)


@pytest.fixture
def base_url(services: Services) -> Iterator[str]:
    with serving(services) as url:
        yield url


@pytest.fixture
def guarded_url(services: Services) -> Iterator[str]:
    """The address of a server over the same database that asks for the token ``r-secret`` (read) or ``w-secret``."""
    settings = settings_for(services.settings.data_dir, api_tokens=("eye:read:r-secret", "hand:write:w-secret"))
    with serving(Services(settings, services.engine, services.broker_url, is_reachable=False)) as url:
        yield url


@pytest.fixture(params=[True, False], ids=["scripts", "no-scripts"])
def has_scripts(request: pytest.FixtureRequest) -> bool:
    scripts: bool = request.param
    return scripts


@pytest.fixture
def page(browser: Browser, base_url: str, has_scripts: bool) -> Iterator[Page]:
    """A tab. A script error or a breach of the content security policy fails the test."""
    context = browser.new_context(base_url=base_url, java_script_enabled=has_scripts)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if _is_complaint(message.text) else None)
    yield page
    context.close()
    assert complaints == []


def _is_complaint(text: str) -> bool:
    return "Content Security Policy" in text or "Uncaught" in text
