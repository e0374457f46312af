"""A real Prometheus that scrapes what a test names, with ramq's alerts made quick."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ramq.embedded.process import spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

MONITORING = Path(__file__).parents[2] / "docs" / "monitoring"
ALERTS = MONITORING / "ramq-alerts.yml"
WINDOW = "60s"
"""The length of every time that panels and alerts look back on."""

_QUICK = ((r"for: \d+m", "for: 3s"), (r"\[\d+m\]", f"[{WINDOW}]"))
_CONFIG = """
global: {{ scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 1s }}
rule_files: [alerts.yml]
scrape_configs:
"""


def program(name: str) -> str:
    """Return the path of ``prometheus`` or ``promtool``. Skip the test if it is not installed."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: run tests/services/install_prometheus.sh as root")
    return found


@dataclass(frozen=True)
class Prometheus:
    """A running one."""

    url: str
    log: Path

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """Return the samples that an expression has now."""
        query = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"{self.url}/api/v1/query?{query}") as answer:
            result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return result

    def firing(self) -> dict[str, list[dict[str, str]]]:
        """Return the alerts that fire, each with the labels of all that do."""
        found: dict[str, list[dict[str, str]]] = {}
        for sample in self.ask('ALERTS{alertstate="firing"}'):
            found.setdefault(sample["metric"]["alertname"], []).append(sample["metric"])
        return found

    def wait_for(self, is_so: Callable[[], object], seconds: float = 120.0) -> None:
        until = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < until, (self.firing(), self.log.read_text()[-2000:])
            time.sleep(0.2)


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, str]) -> Iterator[Prometheus]:
    """Give one that scrapes these addresses, by the name of their job."""
    folder.mkdir()
    rules = ALERTS.read_text(encoding="utf-8")
    for pattern, quick in _QUICK:
        rules = re.sub(pattern, quick, rules)
    (folder / "alerts.yml").write_text(rules, encoding="utf-8")
    jobs = [f"  - {{ job_name: {name}, static_configs: [{{ targets: ['{at}'] }}] }}" for name, at in targets.items()]
    (folder / "prometheus.yml").write_text(_CONFIG.format() + "\n".join(jobs) + "\n", encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    command = [
        program("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--query.lookback-delta=10s",
    ]
    process = spawn(command, cwd=folder, log=folder / "prometheus.log", stop_signal=signal.SIGKILL)
    try:
        server = Prometheus(f"http://{address}", folder / "prometheus.log")
        server_is_ready(server)
        yield server
    finally:
        process.kill()
        process.wait()


def server_is_ready(server: Prometheus) -> None:
    """Wait until it answers."""
    until = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(f"{server.url}/-/ready").close()
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < until, server.log.read_text()
            time.sleep(0.1)
        else:
            return


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
