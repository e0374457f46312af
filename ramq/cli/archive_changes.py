"""``ramq archive``: an archive that moved, an archive that goes."""

from __future__ import annotations

from typing import Annotated

import typer

from ramq.cli.context import services
from ramq.cli.erase import KeepKeys, ReportTo, Yes, prove, require_writable, tell_done
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
    """Tell that an archive moved: a bucket that was copied, a folder that is elsewhere. Results stay.

    Example: ramq archive rename 2 /mnt/new/photos
    """
    with services() as ramq:
        view = ramq.archive_client.rename(archive, to, force=force)
    if as_json:
        print_json(view)
        return
    err().print(f"Archive {view.id} is at {view.uri} now.", markup=False, soft_wrap=True)


@app.command()
def remove(
    archive: Archive,
    report: ReportTo = None,
    keys: KeepKeys = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Erase all that is known of an archive: results, jobs, rules. The originals are never touched.

    Example: ramq archive remove s3://holiday --report removed.json --yes
    """
    if report is not None:
        require_writable(report)
    with services() as ramq:
        if not yes:
            meant = ramq.archive_client.get(archive)
            agree(f"Remove {meant.uri} and erase the results of {plural(meant.images, 'image')}?")
        done = ramq.archive_client.remove(archive, keeps_keys=keys)
        tell_done(done, as_json=as_json)
        if report is not None:
            prove(ramq, done, report)
