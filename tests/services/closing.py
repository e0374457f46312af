"""How a server of asyncio that is stopped at any moment leaves no socket open."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_TURN_SECONDS = 0.05


async def stop_listening(server: asyncio.Server) -> None:
    """Close a server to new connections; those that it has accepted are served."""
    for listener in server.sockets:
        asyncio.get_running_loop().remove_reader(listener.fileno())
    # A connection that was accepted just now is made known to its server in this turn of the loop. If that is closed
    # by then, the connection is forgotten, and its socket stays open.
    await asyncio.sleep(0)
    server.close()


async def drop(clients: Mapping[asyncio.Task[None], asyncio.StreamWriter]) -> None:
    """End every task of a loop, and its connections; those of a server that listens no longer."""
    writers: set[asyncio.StreamWriter] = set()
    # A connection that was accepted just now is a task of the server first, and one of the clients some turns later.
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        writers.update(clients.values())
        for task in clients:
            task.cancel()
        await asyncio.wait(others, timeout=_TURN_SECONDS)
    for writer in writers:
        writer.transport.abort()
    await asyncio.sleep(0)  # the loop lets go of their sockets
