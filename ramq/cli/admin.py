"""Commands about the installation: db, index, doctor, workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ramq.cli.context import services, settings_for
from ramq.cli.output import err, out, print_json, print_table, tell_problems
from ramq.cli.search import Json  # noqa: TC001  (typer reads the annotations)
from ramq.cli.shadow import shadow
from storage.texts import plural, visible

if TYPE_CHECKING:
    from ramq.findings import Finding

db = typer.Typer(no_args_is_help=True, help="The database's schema.\n\nExample: ramq db upgrade")
index = typer.Typer(no_args_is_help=True, help="The vector index.\n\nExample: ramq index status")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(db, name="db")
    index.add_typer(shadow, name="shadow")
    app.add_typer(index, name="index")
    for command in (doctor, workers):
        app.command()(command)


@db.command("upgrade")
def db_upgrade(
    wait: Annotated[
        float, typer.Option(help="Wait so many seconds for a database that does not answer yet.", min=0)
    ] = 0.0,
) -> None:
    """Upgrade the database to the schema of this version. Safe to repeat, and to run from several places at once.

    Run it after a restore too: rows of a dump carry transaction ids of the server that they are from.

    Example: ramq db upgrade --wait 120
    """
    from ramq.addresses import addresses  # noqa: PLC0415
    from storage import migrate, revision  # noqa: PLC0415
    from storage.database import make_engine  # noqa: PLC0415
    from storage.results import restamping  # noqa: PLC0415

    with addresses(settings_for()) as (database_url, _):
        engine = make_engine(database_url)
        revision.wait_for_database(engine, wait, lambda error: _tell_waiting(error, wait))
        before = revision.current(engine)
        migrate.upgrade(engine)
        after = revision.current(engine)
        stamped = restamping.stamp_again(engine)
        engine.dispose()
    if stamped:
        err().print(f"The database was restored from a dump: {stamped:,} rows are made to look unchanged here.")
    change = "" if before == after else f" (before: {before or 'none'})"
    err().print(f"The database is at revision {after}{change}.")


def _tell_waiting(error: Exception, seconds: float) -> None:
    err().print(f"Waiting up to {seconds:g} s: {visible(str(error))}", markup=False, soft_wrap=True)


@db.command("check")
def db_check() -> None:
    """Compare the database with the schema that this version expects. Exit 1 if they differ.

    Example: ramq db check
    """
    from ramq.addresses import addresses  # noqa: PLC0415
    from storage import migrate, revision  # noqa: PLC0415
    from storage.database import make_engine  # noqa: PLC0415

    with addresses(settings_for()) as (database_url, _):
        engine = make_engine(database_url)
        try:
            revision.require_current(engine)
            differences = migrate.differences(engine)
        finally:
            engine.dispose()
    for difference in differences:
        out().print(visible(difference), markup=False)
    if differences:
        raise typer.Exit(1)
    err().print(f"The database is at revision {revision.head()}, and its schema is correct.")


@db.command("run", context_settings={"allow_interspersed_args": False})
def db_run(
    words: Annotated[list[str], typer.Argument(metavar="PROGRAM…", help="The program and its arguments.")],
) -> None:
    """Run a program of PostgreSQL on the database, such as pg_dump or psql. It needs no address and no password.

    The embedded stack is started for it if it is not up, and its own programs are used.

    Example: ramq db run pg_dump --format=custom --file=ramq.dump
    """
    from ramq.database_programs import run_program  # noqa: PLC0415

    raise typer.Exit(run_program(settings_for(), words))


@index.command("status")
def index_status(as_json: Json = False) -> None:
    """Show how much of each generation is published in the index, and how much the database holds.

    Example: ramq index status
    """
    with services() as ramq:
        ramq.index.check()
        views = ramq.index.status()
    if as_json:
        print_json({"items": views})
        return
    print_table(
        ("generation", "stage", "model", "manifest", "segments", "lists", "recall", "indexed", "stored", "delta",
         "bytes", "published"),
        (
            (
                str(v.generation_id), v.stage, v.model, v.manifest, v.segments, v.listed_segments, v.lowest_recall,
                v.vectors_indexed, v.vectors_stored, v.delta, v.bytes, v.published_at,
            )
            for v in views
        ),
    )  # fmt: skip


@index.command("rebuild")
def index_rebuild() -> None:
    """Build the index again from the database alone.

    Example: ramq index rebuild
    """
    _for_each_generation("rebuild")


@index.command("compact")
def index_compact() -> None:
    """Publish new vectors, merge small segments and remove deleted rows.

    Example: ramq index compact
    """
    _for_each_generation("compact")


@index.command("verify")
def index_verify(as_json: Json = False) -> None:
    """Check the hash of every file, and every id against the database. Exit 1 if anything is wrong.

    Example: ramq index verify
    """
    from ramq.services.index import make_builder  # noqa: PLC0415

    with services() as ramq:
        builder = make_builder(ramq.settings, ramq.engine)
        problems = {generation_id: builder.verify(generation_id) for generation_id in ramq.index.generations()}
    tell_problems(problems, "index", as_json=as_json)


def _for_each_generation(action: str) -> None:
    from ramq.services.index import make_builder  # noqa: PLC0415
    from storage.index.feature_compaction import compact as compact_features  # noqa: PLC0415

    with services() as ramq:
        builder = make_builder(ramq.settings, ramq.engine)
        for generation_id in ramq.index.generations():
            if action == "rebuild":
                builder.rebuild(generation_id)
            else:
                builder.publish_new(generation_id, force=True)
                builder.compact(generation_id, purge=True)
        removed = builder.collect_garbage()
        if action == "compact":
            compact_features(ramq.engine, builder.store.place, purge=True)
            if ramq.shadow.is_set:
                ramq.shadow.build()  # deleted images must leave both
        for status in ramq.index.status():
            err().print(
                f"generation {status.generation_id} ({status.model}): {status.vectors_indexed:,} of "
                f"{status.vectors_stored:,} vectors in {status.segments} segments"
            )
        err().print(f"{plural(removed, 'old file')} removed.", style="dim")


def workers(as_json: Json = False) -> None:
    """List the worker processes, and for each what it cannot do now and why.

    Example: ramq workers
    """
    with services() as ramq:
        views = ramq.jobs.workers()
    if as_json:
        print_json({"items": views})
        return
    print_table(
        ("worker", "alive", "device", "stages", "weights", "model", "job", "images/s", "heartbeat, s ago", "unfit"),
        (
            (
                *(
                    v.id,
                    v.is_alive,
                    v.device,
                    ", ".join(v.runs),
                    ", ".join(v.weights),
                    v.model,
                    v.job_id,
                    v.images_per_second,
                    v.heartbeat_age_seconds,
                ),
                "; ".join(f"{each.label}: {each.reason}" for each in v.unfit),
            )
            for v in views
        ),
        keep=("alive",),
        empty="No workers. Start one with `ramq up` or `ramq worker`.",
    )
    if out().is_terminal:  # show the reasons in full, on a narrow terminal too
        for worker, each in ((view, each) for view in views for each in view.unfit):
            out().print(f"{worker.id} is unfit for {each.label}: {visible(each.reason)}", markup=False)


def _tell_finding(finding: Finding) -> None:
    out().print(f"{finding.state:<5}  {finding.name}: {visible(finding.detail)}", markup=False, soft_wrap=True)
    if finding.next:
        out().print(f"       run:  {visible(finding.next)}", markup=False, soft_wrap=True)


def doctor(
    as_json: Json = False,
    source: Annotated[str | None, typer.Option(help="Also check that this archive can be listed and read.")] = None,
) -> None:
    """Check everything that ramq needs. Print what is wrong and which command helps. Exit 1 if anything is wrong.

    Example: ramq doctor --source s3://holiday
    """
    from ramq.doctor import examine  # noqa: PLC0415

    settings = settings_for()
    findings = examine(settings, source)
    if as_json:
        print_json({"checks": findings, "settings": settings.public()})
    else:
        for finding in findings:
            _tell_finding(finding)
        print_table(("setting", "value"), ((name, str(value)) for name, value in settings.public().items()))
    if any(finding.state == "fault" for finding in findings):
        raise typer.Exit(1)
