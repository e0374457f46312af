"""PostgreSQL and Redis from installed wheels, shared by every process that names the same data folder.

The first process that enters :func:`embedded` starts the services. The last one that leaves stops them. Users are not
counted. Each user process holds a shared lock, which the kernel releases however the process ends. A *supervisor*
process owns both services, and stops them when no such lock is left. The files in ``DATA/run``:

* ``users.lock``: users hold it in shared mode. The process that stops the services holds it in exclusive mode.
* ``keeper.lock``: the supervisor holds it in exclusive mode. It inherits the lock at its start and keeps it to its end.
* ``services.json``: the addresses. They are valid only while a supervisor holds an exclusive lock on this file.
"""

from ramq.embedded.client import EmbeddedServices, embedded
from ramq.embedded.layout import EmbeddedError

__all__ = ["EmbeddedError", "EmbeddedServices", "embedded"]
