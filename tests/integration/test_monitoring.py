"""What is watched exists: the dashboard and the alerts name metrics and labels that a web server and a worker give."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ramq.services.job_wishes import JobWishes
from ramq.web.metrics import _search_metrics
from ramq.wiring import Services
from storage.standby import make_standby_engine
from tests.services.recognised import CAT, make_worker
from tests.services.web import services_of
from tests.unit.test_docs import check

if TYPE_CHECKING:
    from starlette.testclient import TestClient

pytestmark = pytest.mark.services

MONITORING = Path(__file__).parents[2] / "docs" / "monitoring"
FUNCTIONS = frozenset(
    {
        *("sum", "min", "max", "topk", "rate", "delta", "deriv", "absent", "vector", "histogram_quantile"),
        *("by", "on", "and", "or"),
    }
)
WORD = re.compile(r"[a-z_][a-z_0-9]*")
NEITHER_METRIC_NOR_LABEL = re.compile(r"\"[^\"]*\"|\[[^]]*\]|\$\w+")


def panels() -> list[dict[str, Any]]:
    dashboard = json.loads((MONITORING / "ramq-dashboard.json").read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = dashboard["panels"]
    return found


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((MONITORING / "ramq-alerts.yml").read_text(encoding="utf-8"))["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def expressions() -> dict[str, str]:
    found = {f"alert {rule['alert']}": rule["expr"] for rule in alerts()}
    for panel in panels():
        found |= {f"panel {panel['id']} {target['refId']}": target["expr"] for target in panel.get("targets", ())}
    return found


def exposed(client: TestClient, photograph: Path, folder: Path) -> dict[str, set[str]]:
    """The labels of each metric, once a worker has worked and somebody has searched."""
    folder.mkdir()
    shutil.copy(photograph, folder)
    services = services_of(client)
    services.watches.add(str(folder), JobWishes())
    job = services.jobs.create(str(folder))
    worker = make_worker(services)
    while not services.jobs.get(job.id).is_over:
        worker.work()
    worker.metrics.observe({"infer": 0}, 0)  # a loop beside the pipeline does both every two seconds
    worker._beat()
    worker._publish()
    client.get("/v1/search", params={"tag": CAT})
    scraped = client.get("/metrics").text + generate_latest(worker.metrics.registry).decode()
    scraped += of_a_standby(services)
    worker.leave()
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(scraped):
        for sample in family.samples:
            # Prometheus adds `instance`; every other label must be there already.
            labels.setdefault(sample.name, {"instance"}).update(sample.labels)
    return labels


def of_a_standby(services: Services) -> str:
    """What a web server says of searches that have a standby. The database stands in for it."""
    standby = make_standby_engine(services.engine.url.render_as_string(hide_password=False))
    others = Services(services.settings, services.engine, None, is_reachable=False, search_engine=standby)
    with others.databases.watched():
        _ = others.databases.chosen  # was asked once
        said = [*_search_metrics(others.databases)]
    standby.dispose()
    lines = [f"{sample.name} {sample.value}" for family in said for sample in family.samples]
    return "\n".join([*lines, "ramq_search_standby_behind_seconds 0", ""])  # which only a real standby has


def unknown(expression: str, labels: dict[str, set[str]]) -> set[str]:
    """The words of an expression that nothing gives."""
    words = set(WORD.findall(NEITHER_METRIC_NOR_LABEL.sub("", expression))) - FUNCTIONS
    metrics = {word for word in words if word.startswith("ramq_")}
    given = set().union(*(labels.get(metric, set()) for metric in metrics))
    return {metric for metric in metrics if metric not in labels} | (words - metrics - given)


def test_what_is_watched_is_given_and_what_is_given_is_on_the_dashboard(
    client: TestClient, archive: Path, tmp_path: Path
) -> None:
    labels = exposed(client, archive / "chelsea.png", tmp_path / "one")
    assert {name: found for name, text in expressions().items() if (found := unknown(text, labels))} == {}
    assert unknown("sum by (colour) (rate(ramq_images[5m]))", labels) == {"ramq_images", "colour"}
    shown = " ".join(target["expr"] for panel in panels() for target in panel.get("targets", ()))
    helpers = ("_created", "_sum", "_bucket", "_count")
    assert [name for name in labels if not name.endswith(helpers) and name not in shown] == []


def test_expressions_close_what_they_open() -> None:
    for name, expression in expressions().items():
        for opening, closing in ("()", "[]", "{}"):
            assert expression.count(opening) == expression.count(closing), name


def test_no_panel_covers_another_and_none_hangs_over_the_edge() -> None:
    assert len({panel["id"] for panel in panels()}) == len(panels())
    places = [(panel["title"], panel["gridPos"]) for panel in panels()]
    for title, place in places:
        assert place["x"] + place["w"] <= 24, title
    for (title, one), (other_title, other) in itertools.combinations(places, 2):
        is_beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        is_below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert is_beside or is_below, f"{title} and {other_title}"


def test_every_alert_says_what_is_wrong_and_what_to_type() -> None:
    assert len({rule["alert"] for rule in alerts()}) == len(alerts())
    for rule in alerts():
        assert rule["annotations"]["summary"].endswith("."), rule["alert"]
        check(re.sub(r"\{\{.*?\}\}", "1", rule["annotations"]["action"]))
