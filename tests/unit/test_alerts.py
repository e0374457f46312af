"""The alerts, on recorded series of the faults that they are about: ``promtool`` of Prometheus evaluates them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import yaml

from tests.services.prometheus import ALERTS, program

RECORDED = Path(__file__).parents[1] / "monitoring" / "ramq-alerts-test.yml"


def names() -> set[str]:
    (group,) = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return {rule["alert"] for rule in group["rules"]}


def test_every_alert_has_a_recorded_fault_in_which_it_fires() -> None:
    tests = yaml.safe_load(RECORDED.read_text(encoding="utf-8"))["tests"]
    fired = {rule["alertname"] for test in tests for rule in test.get("alert_rule_test", ()) if rule["exp_alerts"]}
    assert fired == names()


def test_alerts_fire_in_their_faults_and_not_on_a_calm_day() -> None:
    promtool = program("promtool")
    for what in (["check", "rules", str(ALERTS)], ["test", "rules", str(RECORDED)]):
        done = subprocess.run([promtool, *what], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
