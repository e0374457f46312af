"""What our containers can do, as the kernel says, and who can read the secrets they were given."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from botocore import UNSIGNED
from botocore.exceptions import ClientError

from tests.containers import stand_ins
from tests.containers.composition import BUCKET
from tests.containers.podman import podman, run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.containers.composition import Composition
    from tests.containers.podman import Container

SERVICES = ("web", "worker")
_PLANTED = "planted-7c9f1e55d0b64f4e"
"""Stands in files beside the code that no image may hold."""


def status(container: Container) -> dict[str, str]:
    """What the kernel says about the first process."""
    return dict(re.findall(r"^(\w+):\s*(.*)$", container.exec("cat", "/proc/1/status").stdout, re.MULTILINE))


@pytest.mark.parametrize("service", SERVICES)
def test_the_process_is_nobody_and_can_become_nobody_else(running: Composition, service: str) -> None:
    found = status(running.container(service))
    assert set(found["Uid"].split()) == {"10001"}
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(found[kind], 16) == 0, kind
    assert found["NoNewPrivs"] == "1"
    assert found["Seccomp"] == "2"


@pytest.mark.parametrize("service", SERVICES)
def test_only_the_data_and_temporary_files_can_be_written(running: Composition, service: str) -> None:
    container = running.container(service)
    mounts = [line.split() for line in container.exec("cat", "/proc/1/mountinfo").stdout.splitlines()]
    (root,) = [fields for fields in mounts if fields[4] == "/"]
    assert "ro" in root[5].split(",")
    for folder in ("/", "/etc", "/opt/ramq/bin", "/usr/local/bin", "/root", "/home"):
        refused = container.exec("touch", f"{folder}/written", check=False)
        assert refused.returncode, folder
        as_root = container.exec("touch", f"{folder}/written", user="0", check=False)
        assert "Read-only file system" in as_root.stderr, folder
    for folder in ("/tmp", "/var/lib/ramq"):
        container.exec("touch", f"{folder}/written")
        container.exec("rm", f"{folder}/written")


def test_no_program_of_the_image_gives_more_rights(running: Composition) -> None:
    """Programs with setuid are there, as in every Debian. They give nothing here."""
    found = running.container("worker").exec(
        "python",
        "-c",
        "import subprocess as s; print(s.run(['su', '-c', 'id'], stdin=-3, capture_output=True).returncode)",
    )
    assert found.stdout.strip() != "0"


def test_the_page_is_published_on_loopback_alone(running: Composition) -> None:
    ports = running.container("web").inspect()["NetworkSettings"]["Ports"]
    assert {(port, each["HostIp"]) for port, bound in ports.items() for each in bound or ()} == {
        ("8765/tcp", running.address)
    }
    for service in ("postgres", "redis", "object-store", "worker"):
        bound = running.container(service).inspect()["NetworkSettings"]["Ports"] or {}
        assert not any(bound.values()), service


def test_the_object_store_is_closed_to_everybody_else(running: Composition) -> None:
    running.put({"confined/secret.txt": b"secret"})
    for key, secret, options in (("", "", {"signature_version": UNSIGNED}), ("other", "key", {})):
        stranger = running.store(key=key, secret=secret, **options)
        for ask in (
            lambda client: client.list_buckets(),
            lambda client: client.list_objects_v2(Bucket=BUCKET),
            lambda client: client.get_object(Bucket=BUCKET, Key="confined/secret.txt"),
            lambda client: client.put_object(Bucket=BUCKET, Key="confined/written.txt", Body=b"x"),
        ):
            with pytest.raises(ClientError) as refused:
                ask(stranger)
            assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    running.store().delete_object(Bucket=BUCKET, Key="confined/secret.txt")


def test_secrets_are_in_no_log_and_no_command_line(running: Composition) -> None:
    logs = running.logs(lines=None)
    processes = subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    # The store reads its identities from a file; podman-compose passes variables by name and value while it starts.
    for name, secret in running.secrets.items():
        assert secret not in logs, name
        assert secret not in processes, name


def layers(image: str) -> list[str]:
    """The folders with the files of every layer of an image, lowest first or not."""
    listed = podman("image", "inspect", "--format={{json .GraphDriver.Data}}", image).stdout
    return [folder for value in re.findall(r'"(?:LowerDir|UpperDir)":"([^"]*)"', listed) for folder in value.split(":")]


def held(words: list[str], folders: list[str]) -> list[str]:
    """Files below ``folders`` that hold one of ``words``."""
    patterns = [f"--regexp={word}" for word in words]
    command = ["grep", "--recursive", "--files-with-matches", "--fixed-strings", "--binary-files=text"]
    done = run([*command, *patterns, *folders], check=False, seconds=600)
    assert done.returncode in {0, 1}, done.stderr
    return done.stdout.splitlines()


def test_nothing_beside_the_code_gets_into_an_image(images: None, tmp_path: Path) -> None:
    """Filled-in settings, keys and a clone's own folder stay out, wherever they lie; so does how pip is configured."""
    source = tmp_path / "source"
    source.mkdir()
    # With the permissions of a clone: others would be other layers.
    archived = ["git", "-C", str(stand_ins.ROOT), "-c", "tar.umask=0022", "archive", "HEAD"]
    archive = subprocess.run(archived, capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", str(source)], input=archive.stdout, check=True)
    for name in (
        ".env",
        "ramq/.env",
        "workers/.env.local",
        ".git/config",
        "ramq/server.pem",
        "ramq-data/token",
        "x.log",
    ):
        path = source / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"POSTGRES_PASSWORD={_PLANTED}\n")
    image = "localhost/ramq-planted:latest"
    try:
        stand_ins.build(source, "web", image)
        folders = layers(image)
        assert len(folders) > 3
        assert held([_PLANTED], folders) == []
        history = podman("history", "--no-trunc", "--format={{.CreatedBy}}", image).stdout
        said = history + podman("image", "inspect", image).stdout
        assert _PLANTED not in said
        places = [value for value in stand_ins.pip_configuration().values() if "/" in value]
        assert [place for place in places if place in history] == []
    finally:
        podman("rmi", "--force", image, check=False)


def test_the_running_secrets_are_in_no_layer(running: Composition) -> None:
    secrets = list(running.secrets.values())
    assert held(secrets, layers(stand_ins.WEB)) == []
    for image in (stand_ins.WEB, stand_ins.WORKER):
        said = podman("image", "inspect", image).stdout + podman("history", "--no-trunc", image).stdout
        assert [name for name, secret in running.secrets.items() if secret in said] == []
