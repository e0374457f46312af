"""``ramq user``: who may use the API and the page, and what they may do."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import typer

from ramq.cli.context import services
from ramq.cli.output import agree, err, print_json, print_table
from ramq.cli.search import Json  # noqa: TC001  (typer reads the annotations)

app = typer.Typer(
    no_args_is_help=True, help="Users of the API and the page, and their roles.\n\nExample: ramq user add ann"
)


def register(root: typer.Typer) -> None:
    """Add the commands."""
    root.add_typer(app, name="user")


Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a user.")]
Role = Annotated[
    str,
    typer.Option(
        metavar="ROLE",
        help="look: search and see. correct: also correct tags, text and regions, and review. run: also start and "
        "control jobs, and teach. admin: also erase, set rules and manage users.",
    ),
]


@app.command()
def add(name: Name, role: Role = "look", as_json: Json = False) -> None:
    """Add a user. Tokens are made with `ramq token create`.

    Example: ramq user add ann --role correct
    """
    with services() as ramq:
        user = ramq.accounts.add(name, role, by=ramq.author)
    if as_json:
        print_json(user)
        return
    err().print(f"Added {name} with the role {role}. Next: ramq token create {name}", markup=False)


@app.command("list")
def list_users(as_json: Json = False) -> None:
    """List the users. Those of RAMQ_API_TOKENS are not among them.

    Example: ramq user list
    """
    with services() as ramq:
        users = ramq.accounts.users()
    if as_json:
        print_json({"items": users})
        return
    print_table(
        ("user", "role", "state", "tokens", "last used", "added", "former names"),
        (
            (
                user.name,
                user.role,
                "enabled" if user.is_enabled else "disabled",
                user.tokens,
                user.used_at,
                user.created_at,
                ", ".join(user.former_names) or None,
            )
            for user in users
        ),
        empty="There are no users yet: ramq user add NAME --role admin",
    )


@app.command()
def disable(name: Name) -> None:
    """Let a user's tokens count no more. Jobs that the user started go on.

    Example: ramq user disable ann
    """
    with services() as ramq:
        ramq.accounts.change(name, is_enabled=False, by=ramq.author)
    err().print(f"{name} is disabled. Web servers notice within seconds.", markup=False)


@app.command()
def enable(name: Name) -> None:
    """Let the tokens of a disabled user count again.

    Example: ramq user enable ann
    """
    with services() as ramq:
        ramq.accounts.change(name, is_enabled=True, by=ramq.author)
    err().print(f"{name} is enabled.", markup=False)


@app.command()
def role(name: Name, new: Annotated[str, typer.Argument(metavar="ROLE", help="look, correct, run or admin.")]) -> None:
    """Change what a user may do.

    Example: ramq user role ann run
    """
    with services() as ramq:
        ramq.accounts.change(name, role=new, by=ramq.author)
    err().print(f"{name} has the role {new} now.", markup=False)


@app.command()
def rename(name: Name, new: Annotated[str, typer.Argument(metavar="NEW", help="The new name.")]) -> None:
    """Give a user another name. What the user said keeps the old name, which nobody else can get.

    Example: ramq user rename ann anna
    """
    with services() as ramq:
        ramq.accounts.change(name, to=new, by=ramq.author)
    err().print(f"{name} is called {new} now.", markup=False)


@app.command()
def share(
    name: Name,
    weight: Annotated[float, typer.Argument(metavar="WEIGHT", help="1 is usual; 2 is twice as much.")],
) -> None:
    """Set how much of the workers a user gets while images of others wait, too.

    Example: ramq user share ann 2.0
    """
    from ramq.services.quotas import Whom  # noqa: PLC0415

    with services() as ramq:
        ramq.quotas.put("share", weight, Whom(user=name), by=ramq.author)
    err().print(f"{name} has the share {weight:g} now.", markup=False)


@app.command()
def remove(
    name: Name,
    opens: Annotated[
        bool,
        typer.Option("--open", help="Also if it is the last user: this machine then needs no tokens again."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove a user and revoke the user's tokens. What the user said keeps the name.

    Example: ramq user remove ann --yes
    """
    if not yes:
        agree(f"Remove {name} and revoke all tokens of this user?")
    with services() as ramq:
        ramq.accounts.remove(name, by=ramq.author, opens=opens)
    err().print(f"{name} is removed.", markup=False)


@app.command()
def history(
    limit: Annotated[int, typer.Option(help="Number of changes; 0: all.", min=0)] = 50, as_json: Json = False
) -> None:
    """List who changed what about users and tokens, the newest first.

    Example: ramq user history
    """
    with services() as ramq:
        listed = list(islice(ramq.accounts.every_event(), limit or None))
    if as_json:
        print_json({"items": listed})
        return
    print_table(
        ("when", "who", "what", "user", "token", "detail"),
        (
            (
                each.at,
                each.said_by,
                each.what.replace("_", " "),
                each.user,
                None if each.token_id is None else str(each.token_id),
                each.detail or None,
            )
            for each in listed
        ),
    )
