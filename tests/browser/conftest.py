"""A real browser, with and without scripts, on a real server over a recognised archive."""

from __future__ import annotations

import shutil
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Error, sync_playwright

from ramq.web.server import listen, make_server, url_of
from ramq.wiring import Services
from storage.database import make_engine
from tests.services.missing import missing
from tests.services.recognised import make_recognised_database, settings_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    from tests.services.postgres import PostgresServer

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


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
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("browser")


@pytest.fixture(scope="session")
def archive(stage: Path) -> Path:
    folder = stage / "photographs"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def recognised(postgres_server: PostgresServer, stage: Path, archive: Path) -> Iterator[str]:
    """The name of a database that holds a finished job, to be copied."""
    url = postgres_server.create_migrated_database()
    make_recognised_database(url, stage / "data", archive)
    yield url.rpartition("/")[2].partition("?")[0]
    postgres_server.drop_database(url)


@pytest.fixture
def services(postgres_server: PostgresServer, recognised: str, stage: Path, broker_url: str) -> Iterator[Services]:
    url = postgres_server.create_database(template=recognised)
    engine = make_engine(url)
    yield Services(settings_for(stage / "data"), engine, broker_url, is_reachable=False)
    engine.dispose()
    postgres_server.drop_database(url)


@contextmanager
def serving(services: Services) -> Iterator[str]:
    """The address of a server over ``services`` that runs while the block does."""
    listener = listen(services, "127.0.0.1", 0)
    server = make_server(services)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield url_of(listener).rstrip("/")
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


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
    context.set_default_timeout(20_000)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if _is_complaint(message.text) else None)
    yield page
    context.close()
    assert complaints == []


def _is_complaint(text: str) -> bool:
    return "Content Security Policy" in text or "Uncaught" in text
