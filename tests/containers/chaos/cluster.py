"""A cluster of containers on one bridge: two PostgreSQL, Redis, an object store with a door, workers, web servers."""

from __future__ import annotations

import json
import secrets
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from tests.containers import stand_ins
from tests.containers.chaos.machine import Machine
from tests.containers.podman import Container, PodmanError, podman, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
PASSWORD = "cluster-password"
TOKEN = "cluster-token-for-tests"
STORE = {
    "AWS_ACCESS_KEY_ID": "cluster-access-key",
    "AWS_SECRET_ACCESS_KEY": "cluster-secret-key",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
}
_START_SECONDS = 300.0
_NEIGHBOUR_SECONDS = 60.0
"""A machine that was started again has another hardware address, which this host may not know for half a minute."""
_NUMBERS = {"pg1": 11, "pg2": 12, "redis": 13, "objects": 14, "store": 15, "web1": 21, "web2": 22} | {
    f"worker{number}": 30 + number for number in range(1, 10)
}


@dataclass(frozen=True)
class Images:
    """The images of the machines, and what those with our code see of this host.

    Attributes:
        postgres: with its programs in the path.
        redis: likewise.
        store: SeaweedFS.
        worker: runs workers and the store's door.
        web: runs web servers.
        mounts: folders of this host, each with where they are in the machines, read-only.
        environment: variables of machines with our code, for Python to find its modules.
        clock: what ``wrong_clock`` makes. None: clocks are always right.
    """

    postgres: str
    redis: str
    store: str
    worker: str
    web: str
    mounts: tuple[tuple[Path, str], ...]
    environment: dict[str, str]
    clock: Path | None = None


def made_images(folder: Path) -> Images:
    """Return the images that ``stand_ins`` makes, which give Python and its packages. The code is of this checkout.

    Args:
        folder: of this host, for the library of wrong clocks, which must live as long as the machines.

    Raises:
        PodmanError: the library cannot be made.
    """
    clock = folder / "wrong_clock.so"
    run(["cc", "-O2", "-shared", "-fPIC", "-o", str(clock), str(HERE / "wrong_clock.c"), "-ldl"])
    clock.chmod(0o755)
    return Images(
        stand_ins.POSTGRES,
        stand_ins.REDIS,
        stand_ins.OBJECT_STORE,
        stand_ins.WORKER,
        stand_ins.WEB,
        ((ROOT, "/checkout"),),
        {"PYTHONPATH": "/checkout"},
        clock,
    )


@dataclass
class Cluster:
    """The running machines.

    Attributes:
        folder: of this host, for what is outside of the machines: clocks, counts of recognised images, logs.
        images: of the machines.
        options: further settings of the workers.
        count: of workers.
        primary: the name of the PostgreSQL that takes writes.
    """

    folder: Path
    images: Images
    options: dict[str, str]
    count: int = 3
    primary: str = "pg1"
    machines: dict[str, Machine] = field(default_factory=dict)
    _token: str = field(default_factory=lambda: secrets.token_hex(3))

    @property
    def workers(self) -> list[str]:
        """The names of the workers."""
        return [f"worker{number}" for number in range(1, self.count + 1)]

    @property
    def webs(self) -> list[str]:
        """The names of the web servers."""
        return ["web1", "web2"]

    @property
    def standby(self) -> str:
        """The PostgreSQL that is not the primary."""
        return "pg2" if self.primary == "pg1" else "pg1"

    @property
    def network(self) -> str:
        """The name of the bridge, and the start of the containers' names."""
        return f"chaos-{self._token}"

    def address_of(self, name: str) -> str:
        """The IP address that a machine has or will have."""
        return f"10.97.{int(self._token[:2], 16)}.{_NUMBERS[name]}"

    def url_of(self, name: str, port: int) -> str:
        """The address of a machine's HTTP server, as this host sees it."""
        return f"http://{self.address_of(name)}:{port}"

    def database_url(self, mode: str = "read-write", *, from_host: bool = False) -> str:
        """The address of both PostgreSQL, of which libpq takes the one that ``mode`` asks for."""
        hosts = [self.address_of(name) if from_host else name for name in ("pg1", "pg2")]
        where = ",".join(f"{host}:5432" for host in hosts)
        return f"postgresql://ramq:{PASSWORD}@{where}/ramq?target_session_attrs={mode}"

    def connect(self, name: str | None = None) -> psycopg.Connection[tuple[object, ...]]:
        """A connection to one PostgreSQL, by default the primary."""
        until = time.monotonic() + _NEIGHBOUR_SECONDS
        while True:
            try:
                return psycopg.connect(
                    host=self.address_of(name or self.primary),
                    user="ramq",
                    password=PASSWORD,
                    dbname="ramq",
                    autocommit=True,
                    connect_timeout=5,
                )
            except psycopg.errors.ConnectionTimeout:
                if time.monotonic() > until:
                    raise

    def recognised(self) -> int:
        """How often an image was recognised, by all workers over all their lives."""
        return sum(path.stat().st_size for path in self.folder.glob("worker*/recognised"))

    def set_clock(self, name: str, seconds: int) -> None:
        """Set a worker's clock wrong by ``seconds``, from within a second on."""
        (self.folder / name / "clock").write_text(f"{seconds:+d}\n")

    def set_store(self, fault: str) -> None:
        """Let the store's door fail (see ``store_gate``). An empty text: let it be."""
        (self.folder / "gate" / "fault").write_text(fault)

    # --- to start machines

    def start_services(self) -> None:
        """Start everything but workers and web servers, with a database that is up to date."""
        net = f"10.97.{int(self._token[:2], 16)}.0/24"
        podman("network", "create", f"--subnet={net}", self.network)
        self.add_postgres("pg1", "primary")
        self._add(
            "redis", self.images.redis, ["redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", ""]
        )
        self._add_store()
        self.wait(lambda: self.connect("pg1").close(), "PostgreSQL")
        self.add_postgres("pg2", "standby", "pg1")
        podman(
            "run", "--rm", f"--network={self.network}", *self._ours({"RAMQ_DATABASE_URL": self.database_url()}),
            self.images.web, "python", "-m", "ramq.cli.main", "db", "upgrade", seconds=_START_SECONDS,
        )  # fmt: skip
        self.wait(lambda: self.connect("pg2").close(), "the standby")

    def start_ours(self) -> None:
        """Start workers and web servers."""
        for name in self.workers:
            self._add_worker(name)
        for name in self.webs:
            self._add_web(name)

    def add_postgres(self, name: str, *role: str) -> None:
        """Start a PostgreSQL with an empty disk: ``primary``, or ``standby`` and the name of its primary."""
        options = ["--user=0", f"--volume={HERE}:/chaos:ro", "--shm-size=256m", f"--env=POSTGRES_PASSWORD={PASSWORD}"]
        self._add(name, self.images.postgres, ["/chaos/postgres.sh", *role], options)

    def remove(self, name: str) -> None:
        """Remove a machine and its disk."""
        self.machines.pop(name).container.remove()

    def _add(self, name: str, image: str, command: Sequence[str], options: Sequence[str] = ()) -> None:
        container = Container(f"{self.network}-{name}")
        podman(
            "run", "--detach", "--pull=never", f"--name={container.name}", f"--hostname={name}",
            f"--network={self.network}", f"--ip={self.address_of(name)}", f"--network-alias={name}", "--entrypoint=[]",
            *options, image, *command, seconds=_START_SECONDS,
        )  # fmt: skip
        self.machines[name] = Machine(container, self.address_of(name))

    def _add_store(self) -> None:
        identities = self.folder / "identities.json"
        keys = {"accessKey": STORE["AWS_ACCESS_KEY_ID"], "secretKey": STORE["AWS_SECRET_ACCESS_KEY"]}
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identities.write_text(
            json.dumps({"identities": [{"name": "cluster", "actions": actions, "credentials": [keys]}]})
        )
        command = ["weed", "server", f"-ip={self.address_of('objects')}", "-ip.bind=0.0.0.0", "-dir=/data", "-filer"]
        command += ["-s3", "-s3.port=8333", "-s3.config=/identities.json"]
        command += ["-master.volumeSizeLimitMB=64", "-volume.max=100"]
        options = ["--user=0", f"--volume={identities}:/identities.json:ro", "--tmpfs=/data:rw,size=1g"]
        self._add("objects", self.images.store, command, options)
        gate = self.folder / "gate"
        gate.mkdir()
        self.set_store("")
        command = ["python", "-m", "tests.containers.chaos.store_gate", self.url_of("objects", 8333), "8333"]
        self._add(
            "store", self.images.worker, [*command, "/gate/fault"], [*self._ours({}), f"--volume={gate}:/gate:ro"]
        )

    def _add_worker(self, name: str) -> None:
        shared = self.folder / name
        shared.mkdir()
        shared.chmod(0o777)  # workers are another user
        self.set_clock(name, 0)
        environment = {
            "RAMQ_DATABASE_URL": self.database_url(),
            "RAMQ_DECODE_THREADS": "1",
            "RAMQ_FETCH_THREADS": "8",
            "NULL_MODEL_COUNT": "/shared/recognised",
            **self.options,
        }
        options = [f"--volume={shared}:/shared"]
        if self.images.clock is not None:
            options.append(f"--volume={self.images.clock}:/clock.so:ro")
            environment |= {"LD_PRELOAD": "/clock.so", "WRONG_CLOCK": "/shared/clock"}
        command = ["python", "-m", "tests.services.null_worker"]
        self._add(name, self.images.worker, command, [*self._ours(environment), *options])

    def _add_web(self, name: str) -> None:
        environment = {
            "RAMQ_DATABASE_URL": self.database_url(),
            "RAMQ_API_TOKENS": f"chaos:admin:{TOKEN}",
            "RAMQ_RATE_LIMIT": "0",
        }
        if name == "web2":  # searches on while there is no primary
            environment["RAMQ_SEARCH_DATABASE_URL"] = self.database_url("prefer-standby")
        command = ["python", "-m", "ramq.cli.main", "web", "--host", "0.0.0.0", "--port", "8765"]
        self._add(name, self.images.web, command, self._ours(environment))

    def _ours(self, environment: dict[str, str]) -> list[str]:
        """Options of a container with our code: nobody, on a read-only root, with small disks."""
        settings = {
            "RAMQ_BROKER_URL": "redis://redis:6379/0",
            "RAMQ_INDEX_URL": "s3://index/segments",
            "RAMQ_S3_ENDPOINT_URL": "http://store:8333",
            "RAMQ_ARCHIVE_ALLOW": "s3://photos",
            "RAMQ_STAGES": "recognition",
            "RAMQ_DATA_DIR": "/tmp/data",
            "HOME": "/tmp",
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            **STORE,
            **self.images.environment,
            **environment,
        }
        return [
            "--user=10001", "--read-only", "--security-opt=no-new-privileges", "--cap-drop=ALL", "--workdir=/tmp",
            "--tmpfs=/tmp:rw,size=96m,mode=1777", "--shm-size=128m",
            *(f"--volume={source}:{target}:ro" for source, target in self.images.mounts),
            *(f"--env={name}={value}" for name, value in settings.items()),
        ]  # fmt: skip

    # --- to wait and to end

    def wait(self, attempt: Callable[[], object], what: str, seconds: float = _START_SECONDS) -> None:
        """Call ``attempt`` until it raises nothing.

        Raises:
            TimeoutError: it did not succeed in time. The text has the end of each machine's log.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                attempt()
            except (OSError, psycopg.Error, PodmanError) as error:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{what} did not come up: {error}\n{self.last_words()}") from error
                time.sleep(0.3)
            else:
                return

    def last_words(self) -> str:
        """The end of each machine's log."""
        return "\n".join(f"--- {name}\n{machine.container.logs(25)}" for name, machine in self.machines.items())

    def keep_logs(self) -> dict[str, str]:
        """Write each machine's log into the folder, and return them by name."""
        logs = {name: machine.container.logs() for name, machine in self.machines.items()}
        for name, text in logs.items():
            (self.folder / f"{name}.log").write_text(text)
        return logs

    def end(self) -> None:
        """Remove all machines and the network."""
        for machine in self.machines.values():
            podman("unpause", machine.container.name, check=False)
            machine.container.remove()
        podman("network", "rm", "--force", self.network, check=False)


@contextmanager
def running_cluster(folder: Path, images: Images, **options: str) -> Iterator[Cluster]:
    """Run services while the block lasts, and workers and web servers from ``start_ours`` on. Remove all at the end."""
    cluster = Cluster(folder, images, options)
    try:
        cluster.start_services()
        yield cluster
    finally:
        cluster.end()
