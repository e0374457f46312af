"""The Helm chart: what it renders is valid, safe, and says nothing that ramq does not know."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from ramq.services.backlog import KINDS
from ramq.settings import Settings
from storage.texts import without_secrets
from tests.helm import helm
from tests.unit.test_compose import parse

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "docker" / "helm" / "ramq"
CASES = sorted(path.stem for path in (CHART / "ci").glob("*.yaml"))
OF_OTHERS = {"ScaledObject", "TriggerAuthentication", "ServiceMonitor", "PodMonitor", "PrometheusRule"}
"""Kinds of KEDA and of the Prometheus operator, of which Kubernetes has no schemas."""

KUBERNETES = ("1.30", "1.37")
"""The oldest version that the chart takes, and the newest of which there are schemas here."""


@cache
def rendered(case: str, *more: str) -> tuple[dict[str, Any], ...]:
    """What the chart makes of a file of values. Do not change it."""
    command = [str(helm()), "template", "photos", str(CHART), "--namespace", "ramq"]
    done = subprocess.run(
        [*command, "--values", str(CHART / "ci" / f"{case}.yaml"), *more], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return tuple(each for each in yaml.safe_load_all(done.stdout) if each)


def refused(*more: str) -> str:
    """What is said of values that are wrong."""
    done = subprocess.run(
        [str(helm()), "template", "photos", str(CHART), *more], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    return done.stderr


def named(case: str, kind: str, name: str) -> dict[str, Any]:
    (found,) = (each for each in rendered(case) if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return found


def pods(case: str) -> dict[str, dict[str, Any]]:
    return {
        f"{each['kind']} {each['metadata']['name']}": each["spec"]["template"]["spec"]
        for each in rendered(case)
        if each["kind"] in {"Deployment", "Job"}
    }


def environment(container: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container.get("env", ())}


def test_helm_finds_nothing_wrong() -> None:
    for case in CASES:
        command = [str(helm()), "lint", "--strict", str(CHART), "--values", str(CHART / "ci" / f"{case}.yaml")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("version", KUBERNETES)
def test_everything_is_valid_for_kubernetes(case: str, version: str) -> None:
    for each in rendered(case):
        if each["kind"] not in OF_OTHERS:
            kubernetes_validate.validate(each, version, strict=True)


def test_the_schemas_would_see_a_mistake() -> None:
    wrong = {**named("api", "Service", "photos"), "spec": {"ports": [{"port": "many"}]}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES[1], strict=True)


@pytest.mark.parametrize("case", CASES)
def test_no_container_is_without_limits_or_may_do_more_than_it_needs(case: str) -> None:
    for name, pod in pods(case).items():
        assert pod["automountServiceAccountToken"] is False, name
        assert (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["runAsUser"]) == (True, 10001), name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in pod["containers"]:
            assert {"cpu", "memory"} <= set(container["resources"]["limits"]), name
            assert container["securityContext"] == {
                "readOnlyRootFilesystem": True,
                "allowPrivilegeEscalation": False,
                "privileged": False,
                "capabilities": {"drop": ["ALL"]},
            }, name
            written = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
            assert {"/tmp", "/var/lib/ramq"} <= written, name
            assert written <= {"/tmp", "/var/lib/ramq", "/var/lib/ramq-index"}, name


@pytest.mark.parametrize("case", CASES)
def test_settings_are_known_and_secrets_are_only_referred_to(case: str) -> None:
    known = {f"RAMQ_{field.upper()}" for field in Settings.model_fields}
    for name, pod in pods(case).items():
        for container in pod["containers"]:
            assert container["envFrom"] == [{"secretRef": {"name": "ramq"}}], name
            variables = environment(container)
            assert {each for each in variables if each.startswith("RAMQ_")} <= known, name
            assert not {"RAMQ_DATABASE_URL", "RAMQ_BROKER_URL", "RAMQ_API_TOKENS"} & set(variables), name
            assert [value for value in variables.values() if without_secrets(value) != value] == [], name
            if variables:
                Settings.model_validate(
                    {each.removeprefix("RAMQ_").lower(): value for each, value in variables.items()}
                )
    assert "Secret" not in {each["kind"] for each in rendered(case)}


@pytest.mark.parametrize("case", CASES)
def test_commands_are_ones_that_the_program_knows(case: str) -> None:
    for pod in pods(case).values():
        for container in pod["containers"]:
            parse(container["command"])


@pytest.mark.parametrize("case", CASES)
def test_selectors_find_their_pods_and_no_others(case: str) -> None:
    labels = {
        each["metadata"]["name"]: each["spec"]["template"]["metadata"]["labels"]
        for each in rendered(case)
        if each["kind"] == "Deployment"
    }

    def found(selector: dict[str, str]) -> set[str]:
        return {name for name, own in labels.items() if selector.items() <= own.items()}

    for each in rendered(case):
        kind, name, spec = each["kind"], each["metadata"]["name"], each.get("spec", {})
        if kind == "Deployment":
            assert found(spec["selector"]["matchLabels"]) == {name}
        elif kind in {"Service", "PodDisruptionBudget"}:
            assert found(spec["selector"].get("matchLabels", spec["selector"])) == {"photos-web"}
        elif kind == "NetworkPolicy":
            workers = {one for one in labels if "-worker-" in one}
            assert found(spec["podSelector"]["matchLabels"]) == ({"photos-web"} if name == "photos-web" else workers)
        elif kind == "ScaledObject":
            assert spec["scaleTargetRef"]["name"] in labels


def test_workers_with_a_gpu_ask_for_it_and_the_others_do_not() -> None:
    limits = {
        name: pod["containers"][0]["resources"]["limits"].get("nvidia.com/gpu") for name, pod in pods("api").items()
    }
    assert {name for name, count in limits.items() if count} == {
        "Deployment photos-worker-gpu",
        "Deployment photos-worker-boxes",
    }
    gpu = pods("autoscaled")["Deployment photos-worker-gpu"]
    assert gpu["nodeSelector"] == {"cloud.google.com/gke-spot": "true"}
    assert gpu["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert gpu["containers"][0]["command"] == [
        *("ramq", "worker", "--device", "cuda:0"),
        *("--stages", "recognition,text,locate,crops,look,siglip,clip,dino", "--model", "ram_plus"),
    ]


@pytest.mark.parametrize("case", CASES)
def test_a_worker_gives_its_shards_back_before_it_is_killed(case: str) -> None:
    for name, pod in pods(case).items():
        if "-worker-" in name:
            grace = float(environment(pod["containers"][0])["RAMQ_GRACE_SECONDS"])
            assert 5 <= grace <= pod["terminationGracePeriodSeconds"] - 10, name


def test_workers_are_scaled_on_the_kinds_of_work_that_they_do() -> None:
    def trigger(case: str, name: str) -> dict[str, Any]:
        (found,) = named(case, "ScaledObject", f"photos-worker-{name}")["spec"]["triggers"]
        return {"type": found["type"], **found["metadata"]}

    scaled = trigger("autoscaled", "gpu")
    assert scaled["type"] == "prometheus"
    assert re.findall(r'(\w+)=~?"([^"]*)"', scaled["query"]) == [
        ("device", "cuda"),
        ("kind", "ram_plus|text|locate|crops|look|siglip|clip|dino"),
        ("namespace", "ramq"),
    ]
    assert {"ram_plus", "text", "locate", "crops", "look", "siglip", "clip", "dino"} <= set(KINDS)
    asked = trigger("api", "gpu")
    assert (asked["type"], asked["valueLocation"]) == ("metrics-api", "seconds")
    assert asked["url"] == "http://photos.ramq.svc:8765/v1/backlog?device=cuda&kind=ram_plus"
    assert trigger("api", "cpu")["url"].endswith("device=cpu&kind=lite&kind=ram&kind=ram_plus&kind=text&kind=metadata")
    spec = named("api", "ScaledObject", "photos-worker-gpu")["spec"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (0, 8)
    assert "replicas" not in named("api", "Deployment", "photos-worker-gpu")["spec"]
    assert named("api", "Deployment", "photos-worker-boxes")["spec"]["replicas"] == 1


def test_nothing_runs_while_it_is_stopped() -> None:
    assert {each["spec"]["replicas"] for each in rendered("stopped") if each["kind"] == "Deployment"} == {0}
    scaled = named("stopped", "ScaledObject", "photos-worker-cpu")
    assert scaled["metadata"]["annotations"] == {"autoscaling.keda.sh/paused-replicas": "0"}


def test_the_schema_is_migrated_before_the_pods_are_replaced() -> None:
    job = named("api", "Job", "photos-migrate")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert job["spec"]["template"]["spec"]["containers"][0]["command"] == ["ramq", "db", "upgrade"]


def test_the_alerts_are_those_of_the_documentation() -> None:
    rule = named("autoscaled", "PrometheusRule", "photos")
    assert rule["spec"] == yaml.safe_load((ROOT / "docs" / "monitoring" / "ramq-alerts.yml").read_text())


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([], "set settings.RAMQ_INDEX_URL"),
        (["--set", "existingSecret="], "existingSecret"),
        (["--set", "settings.RAMQ_API_TOKENS=x"], "RAMQ_API_TOKENS"),
        (["--set", "settings.RAMQ_INDEX_URL=milvus+http://user:secret@host:19530"], "RAMQ_INDEX_URL"),
        (["--set", "web.replica=3"], "replica"),
        (["--set", "workers.gpu.model=ramplus"], "model"),
        (["--set", "workers.cpu.stages={reading}"], "stages"),
        (["--set", "workers.cpu.resources.limits=null"], "limits"),
        (["--set", "settings.RAMQ_INDEX_URL=s3://a/b,ingress.enabled=true"], "ingress.tlsSecret"),
        (["--set", "settings.RAMQ_INDEX_URL=s3://a/b,keda.trigger=metrics-api"], "keda.api.tokenSecret"),
    ],
)
def test_values_that_are_wrong_are_refused(values: list[str], words: str) -> None:
    assert words in refused(*values)
