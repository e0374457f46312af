"""The profile ``monitoring``: Prometheus finds the web server and every worker, and Grafana has what it needs."""

from __future__ import annotations

import json
import socket
import urllib.parse
import urllib.request
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from ramq.web.tokens import make_token
from tests.containers import stand_ins
from tests.containers.composition import Composition, composition
from tests.containers.podman import until

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKERS = 2
_SCRAPED_SECONDS = 180.0


def free_port() -> str:
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


@pytest.fixture(scope="module")
def monitored(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composition]:
    stand_ins.prometheus()
    folder = tmp_path_factory.mktemp("monitored")
    folder.chmod(0o755)
    token, entry = make_token("prometheus", "read")
    file = folder / "metrics-token"
    file.write_text(f"{token}\n")
    file.chmod(0o644)
    variables = {
        "RAMQ_METRICS_TOKEN_FILE": str(file),
        "RAMQ_METRICS_ADDRESS": "0.0.0.0:9100",
        "PROMETHEUS_PORT": free_port(),
    }
    with composition(folder, **variables) as running:
        lines = running.env_file.read_text().splitlines()
        entries = [f"{line},{entry}" if line.startswith("RAMQ_API_TOKENS=") else line for line in lines]
        running.env_file.write_text("\n".join(entries) + "\n")
        running.up("--scale", f"worker={WORKERS}")
        # No package has Grafana, so its image is not started.
        running.compose(
            "--profile=monitoring", "up", "--detach", "--no-build", "--no-recreate", "--no-deps", "prometheus"
        )
        yield running


def ask(running: Composition, path: str, **parameters: str) -> Any:
    container = running.container("prometheus")
    (network,) = container.inspect()["NetworkSettings"]["Networks"]
    url = f"http://{container.address(network)}:9090/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)["data"]


def healthy(running: Composition) -> dict[str, int]:
    """How many targets of each job answer."""
    try:
        targets = ask(running, "targets")["activeTargets"]
    except OSError:
        return {}
    jobs = [target["labels"]["job"] for target in targets if target["health"] == "up"]
    return {job: jobs.count(job) for job in set(jobs)}


def test_prometheus_scrapes_the_web_server_and_every_worker(monitored: Composition) -> None:
    until(
        lambda: healthy(monitored) == {"ramq-web": 1, "ramq-workers": WORKERS},
        "all targets",
        seconds=_SCRAPED_SECONDS,
        evidence=lambda: f"{healthy(monitored)}\n{monitored.logs()}",
    )
    (up,) = ask(monitored, "query", query="min(ramq_service_up)")["result"]
    assert up["value"][1] == "1"


def test_the_alerts_are_loaded_and_none_fires(monitored: Composition) -> None:
    shipped = yaml.safe_load((stand_ins.ROOT / "docs" / "monitoring" / "ramq-alerts.yml").read_text())
    groups = ask(monitored, "rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert [rule["name"] for rule in rules] == [rule["alert"] for group in shipped["groups"] for rule in group["rules"]]
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []


def test_the_token_of_prometheus_is_in_no_log(monitored: Composition) -> None:
    token = (monitored.env_file.parent / "metrics-token").read_text().strip()
    assert token not in monitored.logs(lines=None)
