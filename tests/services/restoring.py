"""Backups of a real PostgreSQL, taken and restored with its own programs as docs/operations.md shows."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import make_url, text

from ramq.embedded.layout import Layout
from ramq.embedded.postgres import Postgres, _environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from sqlalchemy import Engine

_HERE = "/proc/self/cwd"
"""The folder in which a program starts: the server's user may not be allowed to enter the folders above it."""


@contextmanager
def open_folder() -> Iterator[Path]:
    """A temporary folder that the server's user may enter: root's own folders are closed to it."""
    with tempfile.TemporaryDirectory(prefix="ramq-restore-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


class Backups:
    """Takes backups of databases into ``folder`` (of ``open_folder``), and makes data folders of them.

    Args:
        folder: for the backups and the archived log.
        layout: a data folder of the embedded stack: its PostgreSQL has the programs, and the user that they run as.
    """

    def __init__(self, folder: Path, layout: Layout) -> None:
        server = Postgres(layout)
        self.binaries, self.owner = server.binaries, server.owner
        self.folder = folder
        self.archive = self._own(folder / "wal")

    def dump(self, url: str, name: str = "ramq.dump") -> Path:
        """Dump a database, whatever uses it."""
        self._run("pg_dump", "--format=custom", f"--file={self.folder / name}", _plain(url))
        return self.folder / name

    def restore(self, file: Path, url: str) -> None:
        """Restore a dump into an empty database."""
        self._run("pg_restore", "--no-owner", "--exit-on-error", f"--dbname={_plain(url)}", str(file))

    def base_backup(self, url: str, name: str = "base") -> Path:
        """Copy the files of a running server, with the log that they need."""
        target, source = self._own(self.folder / name), make_url(url)
        self._run(
            "pg_basebackup",
            f"--pgdata={_HERE}",
            f"--host={source.query['host']}",
            f"--port={source.query['port']}",
            f"--username={source.username}",
            "--checkpoint=fast",
            "--wal-method=stream",
            cwd=target,
        )
        return target

    def verify(self, backup: Path) -> None:
        """Compare the files of a base backup with its manifest."""
        self._run("pg_verifybackup", _HERE, cwd=backup)

    def begin_archiving(self, engine: Engine) -> None:
        """Make a server archive its log from its next start on."""
        target = self.archive / "%f"
        command = f"test ! -f '{target}' && cp '%p' '{target}.part' && mv '{target}.part' '{target}'"
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for name, value in (("archive_mode", "on"), ("archive_command", command)):
                connection.execute(text(f"ALTER SYSTEM SET {name} = '{value.replace(chr(39), chr(39) * 2)}'"))

    def lay(self, backup: Path, data_dir: Path, until: datetime | None = None) -> None:
        """Make a data folder whose PostgreSQL starts from a base backup.

        Args:
            backup: what ``base_backup`` returned.
            data_dir: a folder that has no PostgreSQL.
            until: recover from the archived log up to this time. None: the log in the backup is enough.
        """
        cluster = Layout.create(data_dir).postgres
        subprocess.run(["cp", "--archive", str(backup), str(cluster)], check=True)
        # A server that is tried must not write into the archive of the one that it came from.
        lines = ["archive_mode = 'off'"]
        if until is not None:
            lines += [
                f"""restore_command = 'cp "{self.archive}/%f" "%p"'""",
                f"recovery_target_time = '{until.isoformat()}'",
                "recovery_target_action = 'promote'",
            ]
            signal = cluster / "recovery.signal"
            signal.touch()
            if self.owner:
                os.chown(signal, self.owner.uid, self.owner.gid)
        with (cluster / "postgresql.auto.conf").open("a") as file:
            file.write("\n".join(lines) + "\n")

    def _own(self, folder: Path) -> Path:
        folder.mkdir(mode=0o700)
        if self.owner:
            os.chown(folder, self.owner.uid, self.owner.gid)
        return folder

    def _run(self, program: str, *words: str, cwd: Path | None = None) -> None:
        owner = self.owner if cwd else None
        done = subprocess.run(
            [str(self.binaries / program), *words],
            cwd=cwd,
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
            user=owner.uid if owner else None,
            group=owner.gid if owner else None,
            extra_groups=[] if owner else None,
        )
        assert done.returncode == 0, f"{program}: {done.stderr}"


def archived(engine: Engine) -> None:
    """End the segment of the log in use, so that what was committed until now is archived, and wait for that."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        segment = connection.scalar(text("SELECT pg_walfile_name(pg_switch_wal())"))
        deadline = time.monotonic() + 120
        while (connection.scalar(text("SELECT last_archived_wal FROM pg_stat_archiver")) or "") < segment:
            assert time.monotonic() < deadline, "the log is not archived"
            time.sleep(0.05)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    return path.stat().st_size if path.is_file() else sum(f.stat().st_size for f in path.rglob("*") if f.is_file())


def _plain(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
