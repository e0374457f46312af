"""``docker-compose.yml`` as it is, brought up by podman-compose, and what a person does with it."""

from __future__ import annotations

import os
import random
import sys
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from ramq.client import Client
from ramq.web.tokens import make_token
from tests.containers.podman import Container, PodmanError, podman, run, until
from tests.containers.stand_ins import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mypy_boto3_s3 import S3Client

    from ramq.schemas.jobs import JobOut

_UP_SECONDS = 300.0
_JOB_SECONDS = 600.0
BUCKET = "photographs"


@dataclass(slots=True)
class Composition:
    """A running composition with secrets of its own.

    Attributes:
        name: of the project: its containers, volumes and network begin with it.
        env_file: what a person fills in as ``.env``.
        address: the page's, on loopback.
        token: an administrator's.
        access_key: the name of the object store's identity. The store writes it into its log.
        secrets: the values that nobody else may learn, by name.
        overrides: further files of the composition.
    """

    name: str
    env_file: Path
    address: str
    token: str
    access_key: str
    secrets: dict[str, str]
    overrides: list[Path] = field(default_factory=list)

    def compose(self, *words: str, check: bool = True) -> str:
        """Run podman-compose. Returns what it wrote."""
        files = [f"--file={path}" for path in (ROOT / "docker-compose.yml", *self.overrides)]
        program = str(Path(sys.executable).parent / "podman-compose")
        command = [program, f"--project-name={self.name}", *files, f"--env-file={self.env_file}", *words]
        done = run(command, seconds=_UP_SECONDS, check=check)
        return done.stdout + done.stderr

    def up(self, *words: str) -> None:
        """Bring it up, or to what its files and ``words`` say, and wait until the page answers."""
        self.compose("up", "--detach", "--no-build", *words)
        self.wait_for_page()
        self.start_again()

    def start_again(self) -> None:
        """Start what ended because it was early, as Docker does. Podman 4 does not, as ``migrate`` has ended."""
        for container in self.containers("worker"):
            if container.state == "exited":
                container.start()

    def wait_for_page(self) -> None:
        """Return when the web server says that it reaches all that it needs, and that the schema is its own."""
        until(self._answers, "the page", seconds=_UP_SECONDS, evidence=self.logs)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=10) as answer:
                return int(answer.status) == 200
        except OSError:
            return False

    @property
    def url(self) -> str:
        """Of the page and the API, from this machine."""
        return f"http://{self.address}:8765"

    def client(self) -> Client:
        """Return a client with the token."""
        return Client(self.url, token=self.token)

    def containers(self, service: str) -> list[Container]:
        """Return the containers of a service, ended ones too."""
        labels = {"io.podman.compose.project": self.name, "com.docker.compose.service": service}
        filters = [f"--filter=label={key}={value}" for key, value in labels.items()]
        return [Container(name) for name in podman("ps", "--all", *filters, "--format={{.Names}}").stdout.split()]

    def container(self, service: str) -> Container:
        """Return the first container of a service. Raises ``PodmanError`` if there is none."""
        found = self.containers(service)
        if not found:
            raise PodmanError(f"{service} has no container\n{podman('ps', '--all').stdout}")
        return min(found, key=lambda container: container.name)

    def all(self) -> list[Container]:
        """Return every container."""
        listed = podman("ps", "--all", f"--filter=label=io.podman.compose.project={self.name}", "--format={{.Names}}")
        return [Container(name) for name in listed.stdout.split()]

    def logs(self, lines: int | None = 15) -> str:
        """Return the logs of all containers; by default only their ends."""
        return "\n".join(f"== {each.name} ({each.state})\n{each.logs(lines)}" for each in self.all())

    def sql(self, statement: str) -> list[tuple[str, ...]]:
        """Ask the database itself. Values are as psql prints them."""
        psql = ["psql", "--username=ramq", "--dbname=ramq", "--no-align", "--tuples-only", "--field-separator=\t"]
        done = self.container("postgres").exec(*psql, "--quiet", f"--command={statement}")
        return [tuple(line.split("\t")) for line in done.stdout.splitlines()]

    def store(self, *, key: str | None = None, secret: str | None = None, **options: Any) -> S3Client:
        """Return a client of the object store: with the composition's one identity, or as a stranger."""
        store = self.container("object-store")
        (network,) = store.inspect()["NetworkSettings"]["Networks"]
        client: S3Client = boto3.client(
            "s3",
            endpoint_url=f"http://{store.address(network)}:8333",
            aws_access_key_id=self.access_key if key is None else key,
            aws_secret_access_key=self.secrets["AWS_SECRET_ACCESS_KEY"] if secret is None else secret,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 10}, **options),
        )
        return client

    def put(self, files: Mapping[str, bytes] | Iterable[tuple[str, bytes]]) -> None:
        """Put objects into the bucket that jobs may read; make it if it is not there."""
        client = self.store()
        if BUCKET not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket=BUCKET)
        with ThreadPoolExecutor(8) as pool:
            put = [
                pool.submit(client.put_object, Bucket=BUCKET, Key=key, Body=body) for key, body in dict(files).items()
            ]
        for done in put:
            done.result()

    def recognise(self, source: str = f"s3://{BUCKET}") -> JobOut:
        """Run a job to its end, over HTTP."""
        with self.client() as ramq:
            job = ramq.enqueue(source)
            return ramq.wait(job.id, timeout_seconds=_JOB_SECONDS)

    def down(self) -> None:
        """Remove its containers, network and volumes."""
        self.compose("--profile=*", "down", "--volumes", "--timeout=0", check=False)
        for container in self.all():
            container.remove()
        for kind in ("volume", "network"):
            listed = podman(kind, "ls", f"--filter=label=io.podman.compose.project={self.name}", "--format={{.Name}}")
            for name in listed.stdout.split():
                podman(kind, "rm", "--force", name, check=False)


@contextmanager
def composition(folder: Path, *overrides: Path, **variables: str) -> Iterator[Composition]:
    """Give a composition that is not up yet, and take it down at the end.

    Args:
        folder: for its ``.env``.
        *overrides: further files of the composition.
        **variables: further lines of ``.env``.
    """
    token, entry = make_token("tester", "admin")
    access_key = f"key{uuid.uuid4().hex}"
    secrets = {
        "POSTGRES_PASSWORD": f"pg{uuid.uuid4().hex}",
        "AWS_SECRET_ACCESS_KEY": f"secret{uuid.uuid4().hex}",
    }
    # An address of its own lets several compositions publish the same port.
    address = f"127.{random.randrange(1, 255)}.{random.randrange(256)}.{random.randrange(1, 255)}"
    filled = {**secrets, "AWS_ACCESS_KEY_ID": access_key, "RAMQ_API_TOKENS": entry, "RAMQ_BIND": address, **variables}
    env_file = folder / ".env"
    env_file.write_text("".join(f"{name}={value}\n" for name, value in filled.items()))
    env_file.chmod(0o600)
    name = f"ramq-test-{uuid.uuid4().hex[:8]}"
    made = Composition(name, env_file, address, token, access_key, {**secrets, "the token": token}, list(overrides))
    try:
        yield made
    finally:
        if os.environ.get("RAMQ_KEEP_CONTAINERS") != "1":
            made.down()
