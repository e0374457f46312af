"""The demonstration of ramq on real photographs, in a folder of its own: ``python -m ramq.demo``.

It starts the embedded stack and one worker, archives the photographs and searches them by text. Then it stops
everything. A second run finds everything recorded and takes seconds.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from ramq.contact_sheet import Found, draw
from ramq.demo_photos import copy_photographs, fetched_photographs
from ramq.logs import configure_logs
from ramq.settings import Settings, load_settings
from storage.errors import RamqError, UsageError
from storage.search.views import SearchQuery

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ramq.stack import Workers
    from ramq.wiring import Services
    from storage.ledger.views import JobView
    from storage.search.views import Hit

console = Console(highlight=False)

_POLL_SECONDS = 0.2
_HITS = 5
_OUR_TEXTS = ("a castle above a lake", "a wild animal with horns", "a bird near the water")
_FEW_TEXTS = ("a cat", "a cup of coffee", "a rocket taking off")
_LOADING = "the worker is starting and loading its model"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration, and return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        _demonstrate(options)
    except RamqError as error:
        sys.stderr.write(f"ramq demo: {error}\n")
        return 1
    except KeyboardInterrupt:
        console.print("\nStopped.")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ramq.demo", description="Archive and search real photographs.")
    parser.add_argument("--photos", type=Path, metavar="DIR", help="your own photographs; they are only read")
    parser.add_argument("--data", type=Path, metavar="DIR", default=Path("demo-data"), help="folder for all data")
    parser.add_argument("--keep", action="store_true", help="serve the page until Ctrl-C")
    parser.add_argument("--port", type=int, default=8765, help="port of the page")
    return parser


def _demonstrate(options: argparse.Namespace) -> None:
    # The environment may name a real deployment. The demonstration uses only its own folder.
    data_dir = options.data.absolute()
    settings = load_settings(
        data_dir=data_dir, database_url=None, broker_url=None, index_url=None, model="lite", captioner="template"
    )
    configure_logs("error")
    source = _source(options.photos, data_dir)
    with ExitStack() as stack:
        with console.status("Starting PostgreSQL and Redis …"):
            services, fleet = _start(settings, stack)
        console.print(
            f"[green]✓[/] PostgreSQL, Redis and one worker are running, with their data in {escape(_short(data_dir))}"
        )
        job = _archive(services, fleet, source)
        texts = _texts(services, job, is_ours=options.photos is None)
        found = []
        for text in texts:
            with console.status(f"Searching for “{escape(text)}” …"):
                query = services.search.read(SearchQuery(archive=job.archive, limit=_HITS), text)
                found.append(Found(f'ramq search "{text}"', services.search.page(query).items))
            _show(*found[-1])
        sheet = data_dir / "searches.png"
        draw(found, lambda image_id: services.images.thumbnail(image_id, 320)[0], sheet)
        console.print(f"\n[green]✓[/] All searches and their hits in one picture: [bold]{escape(_short(sheet))}[/]")
        if options.keep:
            _serve(services, options.port)
            return
    console.print("\nEverything is stopped. To see these photographs on the page: [bold]make demo KEEP=1[/]")
    console.print(
        f"To use your own: [bold]make demo PHOTOS=/some/folder[/]. To remove all data: rm -r {escape(_short(data_dir))}"
    )


def _source(photos: Path | None, data_dir: Path) -> Path:
    if photos is not None:
        if not photos.is_dir():
            raise UsageError(f"no such folder: {photos}")
        return photos.absolute()
    folder = data_dir / "photographs"
    if copy_photographs(folder) == 0:
        raise UsageError(
            "no photographs are installed; run pip install scikit-image scikit-learn, or give --photos DIR"
        )
    return folder


def _start(settings: Settings, stack: ExitStack) -> tuple[Services, Workers]:
    from ramq.stack import workers  # noqa: PLC0415  (`--help` needs none of it)
    from ramq.wiring import open_services  # noqa: PLC0415

    services = stack.enter_context(open_services(settings))
    assert services.broker_url is not None
    database_url = services.engine.url.render_as_string(hide_password=False)
    return services, stack.enter_context(workers(settings, database_url, services.broker_url, 1))


def _archive(services: Services, fleet: Workers, source: Path) -> JobView:
    began = time.monotonic()
    job = services.jobs.create(str(source))
    columns = (
        SpinnerColumn(),
        TextColumn("Recognising"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=None, rate=_LOADING)
        while not (job := services.jobs.get(job.id)).is_over:
            fleet.require_alive()
            rate = f"{job.images_per_second:,.1f} images/s" if job.images_per_second else _LOADING
            progress.update(task, total=job.listed or None, completed=job.listed - job.pending, rate=rate)
            time.sleep(_POLL_SECONDS)
    if job.state != "done":
        raise RamqError(f"the job ended as {job.state}: {job.note or 'see ramq job'}")
    if job.done + job.skipped == 0:
        left_out = f", {job.ignored} ignored" if job.ignored else ""
        raise RamqError(
            f"no photograph in {source} could be recognised ({job.listed} files, {job.failed} failed{left_out})"
        )
    known = f", {job.skipped:,} already recorded" if job.skipped else ""
    failed = f", [yellow]{job.failed:,} failed[/]" if job.failed else ""
    ignored = f", {job.ignored:,} other files ignored" if job.ignored else ""
    seconds = time.monotonic() - began
    console.print(f"[green]✓[/] {job.done:,} photographs recognised{known}{failed}{ignored}, in {seconds:.0f} s")
    return job


def _texts(services: Services, job: JobView, *, is_ours: bool) -> list[str]:
    """Return example searches for these photographs. For the user's own, return their most frequent tags."""
    if is_ours:
        return list(_OUR_TEXTS if fetched_photographs() else _FEW_TEXTS)
    return [f"a {facet.name}" for facet in services.search.facets(SearchQuery(archive=job.archive), 3)] or [
        "a photograph"
    ]


def _show(command: str, hits: Sequence[Hit]) -> None:
    console.print(f"\n[bold]$ {escape(command)}[/]")
    for hit in hits:
        tags = ", ".join(tag.name for tag in hit.tags[:3])
        console.print(
            f"  {hit.score:.2f}  {escape(hit.key):<32}  [dim]{escape(tags)}[/]", no_wrap=True, overflow="ellipsis"
        )
    if not hits:
        console.print("  no photograph matches")


def _serve(services: Services, port: int) -> None:
    from ramq.web.server import serve  # noqa: PLC0415

    try:
        serve(
            services,
            "127.0.0.1",
            port,
            on_ready=lambda url: console.print(f"\nThe page: [bold]{url}[/]  (Ctrl-C to stop)"),
        )
    except KeyboardInterrupt:
        console.print("\nStopping …")


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    sys.exit(main())
