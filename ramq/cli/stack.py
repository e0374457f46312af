"""Commands that run until Ctrl-C: up, worker, web."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (typer reads the annotations)
from typing import Annotated

import typer

from ramq.cli.context import settings_for
from ramq.cli.output import err
from ramq.tracing import start as start_traces

_HOST = Annotated[str, typer.Option(help="Address to listen on. Any but loopback needs tokens.")]
_PORT = Annotated[int, typer.Option(help="Port of the page and the API; 0: any free one.", min=0, max=65535)]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (up, worker, web):
        app.command()(command)


def up(
    data: Annotated[Path | None, typer.Option(help="Folder for all data; default: RAMQ_DATA_DIR.")] = None,
    host: _HOST = "127.0.0.1",
    port: _PORT = 8765,
    workers: Annotated[int, typer.Option(help="Number of worker processes; use one per GPU.", min=0, max=64)] = 1,
) -> None:
    """Run the whole stack until Ctrl-C, in one process tree: PostgreSQL, Redis, workers and the web page.

    Example: ramq up --data ~/pictures-index
    """
    from ramq.addresses import addresses  # noqa: PLC0415
    from ramq.stack import workers as running_workers  # noqa: PLC0415
    from ramq.web.security import is_loopback  # noqa: PLC0415
    from ramq.web.server import require_tokens, serve  # noqa: PLC0415
    from ramq.wiring import open_services  # noqa: PLC0415

    settings = settings_for(data_dir=data)
    start_traces(settings, "ramq-web")
    with (
        addresses(settings) as (database_url, broker_url),
        open_services(settings, is_reachable=not is_loopback(host)) as services,
    ):
        assert broker_url is not None or not workers
        require_tokens(services, host)
        with running_workers(settings, database_url, broker_url or "", workers):
            serve(services, host, port, on_ready=_announce, on_stop=_stopping_all)


def worker(
    queues: Annotated[
        str | None, typer.Option(help="Queues to listen on, comma-separated; default: those of the model.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cuda:0, cpu or auto; default: RAMQ_DEVICE.")] = None,
    model: Annotated[str | None, typer.Option(help="The only model to run; default: any that a job needs.")] = None,
    stages: Annotated[
        str | None,
        typer.Option(
            help="What it does, comma-separated: recognition, text, locate, crops, look, siglip, clip, dino; "
            "default: RAMQ_STAGES."
        ),
    ] = None,
) -> None:
    """Run one worker process. Start one for each GPU, on any number of machines.

    Example: ramq worker --device cuda:0 --model ram_plus
    """
    settings = settings_for(device=device, stages=stages)
    start_traces(settings, "ramq-worker")
    err().print("Starting a worker. On Ctrl-C it finishes its current batch and releases the rest.", style="dim")
    from ramq.worker_process import run_worker  # noqa: PLC0415  (torch)

    names = tuple(name.strip() for name in queues.split(",") if name.strip()) if queues else None
    run_worker(settings, model=model, queues=names)


def web(host: _HOST = "127.0.0.1", port: _PORT = 8765) -> None:
    """Serve the API and the page.

    Example: ramq web --port 8080
    """
    from ramq.web.security import is_loopback  # noqa: PLC0415
    from ramq.web.server import serve  # noqa: PLC0415
    from ramq.wiring import open_services  # noqa: PLC0415

    settings = settings_for()
    start_traces(settings, "ramq-web")
    with open_services(settings, is_reachable=not is_loopback(host)) as services:
        serve(services, host, port, on_ready=_announce, on_stop=_stopping)


def _stopping() -> None:
    err().print("Stopping.", style="dim")


def _stopping_all() -> None:
    err().print("Stopping. Workers finish their current batches …", style="dim")


def _announce(url: str) -> None:
    err().print(f"The page is at {url}   (Ctrl-C to stop)")
