"""``ramq policy``: rules that hide tags, allow only some, or say which are no things, in one archive or in all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ramq.cli.context import services
from ramq.cli.output import err, print_json, print_table
from ramq.cli.search import ArchiveOf, Json  # noqa: TC001  (typer reads the annotations)
from storage.errors import UsageError
from storage.texts import plural

app = typer.Typer(
    no_args_is_help=True,
    help="Tag rules: hide tags, allow only some, or say which are no things, in one archive or in all.\n\n"
    "Example: ramq policy deny revolver",
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
        ((rule.name, rule.kind.replace("_", "-"), rule.archive or "all", rule.said_by, rule.said_at) for rule in rules),
    )


@app.command()
def deny(tag: TagName, archive: ArchiveOf = None) -> None:
    """Hide a tag from search, counts, pages and exports.

    Example: ramq policy deny revolver --archive 1
    """
    with services() as ramq:
        ramq.policies.put(tag, "deny", archive, by=ramq.author)
    err().print(f"Tag {tag!r} is now hidden.", markup=False)


@app.command()
def allow(tag: TagName, archive: ArchiveOf = None) -> None:
    """Allow a tag. Once any tag is allowed, all tags that are not allowed are hidden.

    Example: ramq policy allow canoe --archive 1
    """
    with services() as ramq:
        ramq.policies.put(tag, "allow", archive, by=ramq.author)
    err().print(f"Tag {tag!r} is now allowed. Tags that are not allowed are hidden.", markup=False)


@app.command()
def clear(tag: TagName, archive: ArchiveOf = None) -> None:
    """Remove the rules of a tag.

    Example: ramq policy clear revolver --archive 1
    """
    with services() as ramq:
        ramq.policies.clear(tag, archive)
    err().print("Rule removed.")


Tags = Annotated[list[str] | None, typer.Argument(metavar="[TAG…]", help="Names or numbers of tags.")]
TagsFile = Annotated[
    Path | None,
    typer.Option("--file", metavar="FILE", help="Also those in this file, one per line; # begins notes."),
]


@app.command("no-thing")
def no_thing(tags: Tags = None, file: TagsFile = None, archive: ArchiveOf = None) -> None:
    """Say that tags name no things, such as scenes and actions. `ramq locate` then looks for them only by name.

    Example: ramq policy no-thing sunny running
    """
    named = _named(tags, file)
    with services() as ramq:
        ramq.policies.put_all(named, "no_thing", archive, by=ramq.author)
    err().print(
        f"{plural(len(named), 'tag')} will not be looked for in pictures from now on, unless --tags names them."
    )


@app.command()
def thing(tags: Tags = None, file: TagsFile = None, archive: ArchiveOf = None) -> None:
    """Say that tags name things after all. `ramq locate` looks for them again.

    Example: ramq policy thing sunny
    """
    named = _named(tags, file)
    with services() as ramq:
        ramq.policies.clear_all(named, archive, "no_thing")
    err().print(f"{plural(len(named), 'tag')} will be looked for in pictures from now on.")


def _named(tags: list[str] | None, file: Path | None) -> list[str]:
    """Return the tags that were given, each once. Raises ``UsageError`` if there are none."""
    named = list(tags or ())
    if file is not None:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{file} cannot be read as text: {error}") from error
        named += [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not named:
        raise UsageError("no tag is named; give some, or a --file of them")
    return list(dict.fromkeys(named))
