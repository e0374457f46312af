"""The files of the embedded services below the data folder, and the locks with which processes share them."""

from __future__ import annotations

import fcntl
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from storage.errors import ServiceUnavailableError


class EmbeddedError(ServiceUnavailableError):
    """The embedded PostgreSQL or Redis cannot be started or used. The message is one line, and says what to do."""

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
        """Create missing folders, readable only by their owner, and return the layout.

        Raises:
            EmbeddedError: the folder cannot be created or written to.
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
        """Locks and addresses. Its files are valid only while the services run."""
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
        """The folder of the sockets. Its path is short, because the path of a Unix socket has at most 107 bytes.

        It is the same for every start, so that a client that lost its connection finds the restarted service.
        """
        digest = hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:12]
        return Path(f"/tmp/ramq-{os.geteuid()}-{digest}")  # noqa: S108 - its owner and mode are checked before use

    def unusable(self, error: OSError) -> EmbeddedError:
        """Return the one-line error for a data folder that the operating system does not let us use."""
        return EmbeddedError(
            f"cannot use the data folder {self.data_dir}: {error.strerror}; fix this, or choose another (RAMQ_DATA_DIR)"
        )


def open_lock(path: Path) -> int:
    """Open a lock file, and return its descriptor. Create the file if it is missing. Children do not inherit it."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def try_lock(descriptor: int, *, exclusive: bool) -> bool:
    """Take a shared or exclusive lock, or change to it, without waiting. Return whether it succeeded.

    A change is not atomic. If it fails, the previous lock is lost too.
    """
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
