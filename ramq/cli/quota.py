"""``ramq quota``: how much each user, token and archive may use, and uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ramq.cli.context import services
from ramq.cli.output import err, print_json, print_table
from ramq.cli.search import Json, not_empty
from ramq.services.quotas import EVERYBODY, Whom, number_of, shown

if TYPE_CHECKING:
    from storage.ledger.quota_use import UseView
    from storage.ledger.quotas import QuotaView

app = typer.Typer(
    no_args_is_help=True,
    help="Quotas: how much each user, token and archive may use.\n\nExample: ramq quota set images-waiting 10000",
)


def register(root: typer.Typer) -> None:
    """Add the commands."""
    root.add_typer(app, name="quota")


Kind = Annotated[
    str,
    typer.Argument(
        metavar="KIND",
        help="images-waiting: images in flight. images-a-day: images that listings give to workers in a day of UTC. "
        "jobs-at-once: running and paused jobs. highest-priority: of new jobs. searches-per-second. share: weight "
        "among the users whose images wait.",
    ),
]
User = Annotated[str | None, typer.Option("--user", metavar="NAME", help="For this user.")]
Token = Annotated[
    int | None, typer.Option("--token", metavar="ID", help="For this token: only searches.", min=1, max=2**63 - 1)
]
ArchiveOf = Annotated[
    str | None,
    typer.Option("--archive", metavar="A", help="For this archive: its URI or id.", callback=not_empty),
]


@app.command("list")
def list_quotas(
    use: Annotated[bool, typer.Option("--use", help="Show what is used instead of only the quotas.")] = False,
    as_json: Json = False,
) -> None:
    """List the quotas, or what users and archives use of them.

    Example: ramq quota list --use
    """
    with services() as ramq:
        if use:
            _print_use(ramq.quotas.use(), as_json=as_json)
            return
        quotas = ramq.quotas.list()
    if as_json:
        print_json({"items": [_as_json(quota) for quota in quotas]})
        return
    print_table(
        ("quota", "for", "name", "amount"),
        (
            (
                quota.kind.replace("_", "-"),
                EVERYBODY if quota.subject == "default" else quota.subject,
                quota.name or None,
                shown(quota),
            )
            for quota in quotas
        ),
        empty="There are no quotas: nobody is limited. Set one with `ramq quota set KIND AMOUNT`.",
    )


@app.command("set")
def set_quota(
    kind: Kind,
    amount: Annotated[
        str, typer.Argument(metavar="AMOUNT", help="A number; none: no limit; low, normal or high for a priority.")
    ],
    user: User = None,
    token: Token = None,
    archive: ArchiveOf = None,
    as_json: Json = False,
) -> None:
    """Set a quota: for all users without an own one, or for one user, token or archive.

    Example: ramq quota set images-waiting 10000 --user ann
    """
    with services() as ramq:
        quota = ramq.quotas.put(kind, amount, Whom(user, token, archive), by=ramq.author)
    if as_json:
        print_json(_as_json(quota))
        return
    whom = f"{quota.subject} {quota.name}" if quota.name else "users without an own quota"
    err().print(f"{quota.kind.replace('_', '-')} for {whom}: {shown(quota)}.", markup=False)


@app.command()
def unset(kind: Kind, user: User = None, token: Token = None, archive: ArchiveOf = None) -> None:
    """Remove a quota. A user without an own one has that of all users.

    Example: ramq quota unset images-waiting --user ann
    """
    with services() as ramq:
        ramq.quotas.drop(kind, Whom(user, token, archive), by=ramq.author)
    err().print("Quota removed.")


def _as_json(quota: QuotaView) -> dict[str, object]:
    return {"kind": quota.kind, "subject": quota.subject, "name": quota.name, "amount": quota.shown}


def _print_use(found: list[UseView], *, as_json: bool) -> None:
    if as_json:
        print_json({"items": found})
        return
    print_table(
        ("name", "share", "images in flight", "images today", "jobs", "highest priority", "searches/s"),
        (
            (
                each.name,
                None if each.subject == "archive" else f"{each.share:g}",
                _of(each.images_waiting, each.most_images_waiting),
                _of(each.images_today, each.most_images_a_day),
                _of(each.jobs, each.most_jobs_at_once),
                each.highest_priority,
                None if each.searches_per_second is None else f"{each.searches_per_second:g}",
            )
            for each in found
        ),
        keep=("name",),
        empty="No user has used anything yet.",
    )


def _of(used: int, most: float | None) -> str:
    return f"{used:,}" if most is None else f"{used:,} of {number_of(most)}"
