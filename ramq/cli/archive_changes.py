"""``ramq archive``: rename or remove an archive."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from ramq.cli.context import services
from ramq.cli.erase import KeepKeys, ReportTo, Yes, prove, require_writable, tell_done
from ramq.cli.erase_stop import stopped_with_a_word
from ramq.cli.output import agree, err, print_json
from ramq.cli.search import Json  # noqa: TC001  (typer reads the annotations)
from storage.texts import plural

app = typer.Typer(
    help="Rename or remove an archive.\n\nExample: ramq archive rename 2 /mnt/new/photos", no_args_is_help=True
)


def register(root: typer.Typer) -> None:
    """Add the commands."""
    root.add_typer(app, name="archive")


Archive = Annotated[str, typer.Argument(metavar="ARCHIVE", help="Its number or address; see `ramq archives`.")]


@app.command()
def rename(
    archive: Archive,
    to: Annotated[str, typer.Argument(metavar="TO", help="Where it is now: s3://bucket/prefix or a folder.")],
    force: Annotated[bool, typer.Option("--force", help="Even if none of its images is there yet.")] = False,
    as_json: Json = False,
) -> None:
    """Give an archive its new address after its bucket was copied or its folder was moved. Results stay.

    Example: ramq archive rename 2 /mnt/new/photos
    """
    with services() as ramq:
        view = ramq.archives.rename(archive, to, force=force)
    if as_json:
        print_json(view)
        return
    err().print(f"Archive {view.id} is now at {view.uri}.", markup=False, soft_wrap=True)


@app.command()
def remove(
    archive: Archive,
    report: ReportTo = None,
    keys: KeepKeys = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Erase everything about an archive: results, jobs, rules. The originals are never touched.

    Example: ramq archive remove s3://holiday --report removed.json --yes
    """
    if report is not None:
        require_writable(report)
    with services() as ramq:
        if not yes:
            meant = ramq.archives.get(archive)
            agree(f"Remove {meant.uri} and erase the results of {plural(meant.images, 'image')}?")
        with stopped_with_a_word(f"ramq archive remove {shlex.quote(archive)}"):
            done = ramq.archives.remove(archive, by=ramq.author, keeps_keys=keys)
        tell_done(done, as_json=as_json)
        if report is not None:
            prove(ramq, done, report)
