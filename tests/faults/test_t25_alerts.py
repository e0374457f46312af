"""Dashboard and alerts on a real Prometheus: panels have data, nothing fires in a calm run, the right alert in a fault.

Times are shortened: alerts wait for three seconds, and look back on a minute.
"""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from ramq.services.job_wishes import JobWishes
from tests.services.checker import fill
from tests.services.fleet import client_services, running_fleet, wait_for
from tests.services.prometheus import MONITORING, WINDOW, free_port, program, prometheus
from tests.services.web import serving

if TYPE_CHECKING:
    from pathlib import Path

    from ramq.settings import Settings
    from tests.services.breakable import BreakableServices
    from tests.services.prometheus import Prometheus

WITHOUT_DATA = {
    'sum(rate(ramq_http_requests_total{status=~"5.."}[$__rate_interval]))': "no request fails on a calm day",
    "min by (instance) (ramq_search_reads_standby)": "there is no standby",
    "sum by (instance) (rate(ramq_search_fallbacks_total[5m]))": "there is no standby",
    "max by (instance) (ramq_search_standby_behind_seconds)": "there is no standby",
}
"""Queries of panels that may have no data, each with the reason."""


def queries() -> list[str]:
    dashboard = json.loads((MONITORING / "ramq-dashboard.json").read_text(encoding="utf-8"))
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]


def empty(server: Prometheus) -> list[str]:
    """The queries of panels that have no data now."""
    asked = {query: query.replace("$__rate_interval", WINDOW).replace("[15m]", f"[{WINDOW}]") for query in queries()}
    return [query for query, now in asked.items() if not server.ask(now)]


def get(url: str) -> None:
    with suppress(urllib.error.HTTPError):
        urllib.request.urlopen(url).close()


@pytest.mark.slow
def test_panels_have_data_and_each_fault_alarms_as_it_should(
    breakable: BreakableServices, breakable_settings: Settings, tmp_path: Path
) -> None:
    program("prometheus")
    fill(tmp_path / "photos", 1_200)
    fill(tmp_path / "watched", 1)
    port = free_port()
    with (
        client_services(breakable_settings) as services,
        running_fleet(breakable_settings, tmp_path, RAMQ_METRICS_ADDRESS=f"127.0.0.1:{port}") as fleet,
        serving(services) as url,
        prometheus(
            tmp_path / "prometheus", {"ramq-web": url.partition("//")[2], "ramq-workers": f"127.0.0.1:{port}"}
        ) as server,
    ):
        services.watches.add(str(tmp_path / "watched"), JobWishes())
        job = services.jobs.create(str(tmp_path / "photos"))
        (worker,) = fleet.start(1, NULL_MODEL_SECONDS="0.6")

        def is_shown() -> bool:
            get(f"{url}/v1/search?tag=tag+1")
            get(f"{url}/nowhere")
            return set(empty(server)) <= set(WITHOUT_DATA)

        wait_for(services, job.id, fleet, lambda view: view.done > 0)
        server.wait_for(is_shown)
        assert server.firing() == {}
        view = services.jobs.get(job.id)
        assert view.state == "running", "the panels were asked after the job"

        # The only worker dies while work waits.
        fleet.kill(worker)
        server.wait_for(lambda: "RamqNobodyWorks" in server.firing())
        assert "RamqServiceIsDown" not in server.firing()

        # Files that are no pictures.
        broken = tmp_path / "broken"
        broken.mkdir()
        for number in range(150):
            (broken / f"{number}.jpg").write_bytes(b"no picture")
        bad = services.jobs.create(str(broken), priority="high")
        fleet.start(1)
        server.wait_for(lambda: "RamqManyImagesFail" in server.firing())
        assert {labels["job_id"] for labels in server.firing()["RamqManyImagesFail"]} == {str(bad.id)}
        server.wait_for(lambda: "RamqNobodyWorks" not in server.firing())
        wait_for(services, job.id, fleet, lambda view: view.is_over)

        # The database is away.
        seen: list[dict[str, str]] = []

        def look() -> None:
            server.wait_for(lambda: seen.extend(server.firing().get("RamqServiceIsDown", ())) or seen)

        watching = threading.Thread(target=look)
        watching.start()
        breakable.crash_postgres(seconds_away=20.0)
        watching.join()
        assert {labels["service"] for labels in seen} == {"database"}
        server.wait_for(lambda: "RamqServiceIsDown" not in server.firing())
