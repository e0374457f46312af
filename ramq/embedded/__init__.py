"""PostgreSQL and Redis from installed wheels, shared by every process that names the same data folder.

The first process to enter :func:`embedded` starts the services, the last to leave stops them. Nobody counts users by
hand: a user holds a shared lock, which the kernel releases however the user ends. A *supervisor* process owns both
services, and stops them once no such lock is left. What each file below ``DATA/run`` means:

* ``users.lock``: shared by users for as long as they live, exclusive by whoever is stopping the services;
* ``keeper.lock``: exclusive by the supervisor from before its birth (it inherits the lock) until its end;
* ``services.json``: the addresses; true only while a supervisor holds an exclusive lock on this very file.
"""

from ramq.embedded.client import EmbeddedServices, embedded
from ramq.embedded.layout import EmbeddedError

__all__ = ["EmbeddedError", "EmbeddedServices", "embedded"]
