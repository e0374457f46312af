"""``ramq policy``: rules that hide tags, or allow only some, in one archive or in all."""

from __future__ import annotations

from typing import Annotated

import typer

from ramq.cli.context import services
from ramq.cli.output import err, print_json, print_table
from ramq.cli.search import ArchiveOf, Json  # noqa: TC001  (typer reads the annotations)

app = typer.Typer(
    no_args_is_help=True,
    help="Tag rules: hide tags, or allow only some, in one archive or in all.\n\nExample: ramq policy deny revolver",
)


def register(root: typer.Typer) -> None:
    """Add the commands."""
    root.add_typer(app, name="policy")


TagName = Annotated[str, typer.Argument(metavar="TAG", help="Name or number of a tag.")]


@app.command("list")
def list_rules(as_json: Json = False) -> None:
    """List the tag rules.

    Example: ramq policy list
    """
    with services() as ramq:
        rules = ramq.policies.list()
    if as_json:
        print_json({"items": rules})
        return
    print_table(
        ("tag", "rule", "archive", "who", "when"),
        ((rule.name, rule.kind, rule.archive or "all", rule.said_by, rule.said_at) for rule in rules),
    )


@app.command()
def deny(tag: TagName, archive: ArchiveOf = None) -> None:
    """Hide a tag from search, counts, pages and exports.

    Example: ramq policy deny revolver --archive 1
    """
    with services() as ramq:
        ramq.policies.put(tag, "deny", archive)
    err().print(f"Tag {tag!r} is now hidden.", markup=False)


@app.command()
def allow(tag: TagName, archive: ArchiveOf = None) -> None:
    """Allow a tag. Once any tag is allowed, all tags that are not allowed are hidden.

    Example: ramq policy allow canoe --archive 1
    """
    with services() as ramq:
        ramq.policies.put(tag, "allow", archive)
    err().print(f"Tag {tag!r} is now allowed. Tags that are not allowed are hidden.", markup=False)


@app.command()
def clear(tag: TagName, archive: ArchiveOf = None) -> None:
    """Remove the rule of a tag.

    Example: ramq policy clear revolver --archive 1
    """
    with services() as ramq:
        ramq.policies.clear(tag, archive)
    err().print("Rule removed.")
