"""Where the embedded services keep what below the data folder, and the locks they are shared by."""

from __future__ import annotations

import fcntl
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from storage.errors import ServiceUnavailableError


class EmbeddedError(ServiceUnavailableError):
    """The embedded PostgreSQL or Redis cannot be started or used. The message is one line and says what to do."""

    code = "embedded-services"


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one embedded stack.

    Attributes:
        data_dir: absolute and free of links, so that every process derives the same paths from it.
    """

    data_dir: Path

    @classmethod
    def create(cls, data_dir: Path) -> Layout:
        """Makes the folders that are missing, readable by their owner alone.

        Raises:
            EmbeddedError: the folder cannot be made or written to.
        """
        layout = cls(data_dir.expanduser().resolve())
        try:
            layout.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (layout.run, layout.logs, layout.redis):
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise layout.unusable(error) from error
        return layout

    @property
    def run(self) -> Path:
        """Locks and addresses; nothing in it outlives the services."""
        return self.data_dir / "run"

    @property
    def logs(self) -> Path:
        """One log per process."""
        return self.data_dir / "logs"

    @property
    def postgres(self) -> Path:
        """The PostgreSQL cluster."""
        return self.data_dir / "postgres"

    @property
    def redis(self) -> Path:
        """The append-only file of Redis."""
        return self.data_dir / "redis"

    @property
    def users_lock(self) -> Path:
        """Held in shared mode by every user."""
        return self.run / "users.lock"

    @property
    def supervisor_lock(self) -> Path:
        """Held in exclusive mode by the supervisor."""
        return self.run / "keeper.lock"

    @property
    def services_file(self) -> Path:
        """The addresses, as JSON."""
        return self.run / "services.json"

    @property
    def sockets(self) -> Path:
        """A short path whatever the data folder is called: the address of a Unix socket ends at 107 bytes.

        The same for every start, so that a client that lost its connection finds the restarted service.
        """
        digest = hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:12]
        return Path(f"/tmp/ramq-{os.geteuid()}-{digest}")  # noqa: S108 - its owner and mode are checked before use

    def unusable(self, error: OSError) -> EmbeddedError:
        """The one-line error for a data folder that the operating system refuses."""
        return EmbeddedError(
            f"cannot use the data folder {self.data_dir}: {error.strerror}; free it or choose another (RAMQ_DATA_DIR)"
        )


def open_lock(path: Path) -> int:
    """Opens a lock file, making it when it is missing; returns the descriptor, which nobody inherits."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def try_lock(descriptor: int, *, exclusive: bool) -> bool:
    """Takes (or changes to) a shared or exclusive lock if nobody stands in the way; says whether it did.

    A change is not atomic: when it fails the former lock is gone as well.
    """
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
