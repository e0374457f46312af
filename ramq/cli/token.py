"""``ramq token``: tokens of users, and entries for the setting of tokens."""

from __future__ import annotations

from typing import Annotated

import typer

from ramq.cli.context import services
from ramq.cli.output import err, out, print_json, print_table
from ramq.cli.search import Json  # noqa: TC001  (typer reads the annotations)

app = typer.Typer(
    no_args_is_help=True, help="Access tokens for the API and the page.\n\nExample: ramq token create ann"
)


def register(root: typer.Typer) -> None:
    """Add the commands."""
    root.add_typer(app, name="token")


@app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of its user, for logs and rate limits.")],
    scope: Annotated[str, typer.Option(help="read, write or admin; each includes the ones before it.")] = "read",
    as_json: Json = False,
) -> None:
    """Make an entry for RAMQ_API_TOKENS. For a user in the database: `ramq token create`.

    Prints a token, and the entry with only its hash. Nothing is stored, and servers must be restarted.

    Example: ramq token new ann --scope write
    """
    from ramq.web.tokens import make_token  # noqa: PLC0415  (`--help` needs none of it)

    token, entry = make_token(name, scope)
    if as_json:
        print_json({"token": token, "entry": entry})
        return
    out().print(f"{token}\n{entry}", markup=False, soft_wrap=True)
    err().print("Give the first line to the user (shown once); add the second to RAMQ_API_TOKENS.")


@app.command()
def create(
    user: Annotated[str, typer.Argument(metavar="USER", help="Name of a user; see `ramq user list`.")],
    expires: Annotated[
        str | None, typer.Option(metavar="PERIOD", help="How long it is valid: 12h, 90d, 6w or 1y; default: no end.")
    ] = None,
    role: Annotated[str | None, typer.Option(help="A lower role than the user's: look, correct or run.")] = None,
    note: Annotated[str, typer.Option(help="What it is for.")] = "",
    as_json: Json = False,
) -> None:
    """Make a token of a user. Prints it once; only its hash is stored. Servers need no restart.

    Example: ramq token create ann --expires 90d --note laptop
    """
    with services() as ramq:
        made = ramq.accounts.create_token(user, role=role, expires=expires, note=note, by=ramq.author)
    if as_json:
        print_json({"secret": made.secret, "token": made.token})
    else:
        out().print(made.secret, markup=False, soft_wrap=True)
        err().print(f"This is token {made.token.id} of {user}. Copy it now: it is not shown again.", markup=False)
    if made.is_first:
        err().print("From now on every request to a web server needs a token, also on this machine.")


@app.command("list")
def list_tokens(
    user: Annotated[str | None, typer.Option(metavar="NAME", help="Only those of this user.")] = None,
    as_json: Json = False,
) -> None:
    """List the tokens of users, the newest first, without their secrets.

    Example: ramq token list --user ann
    """
    with services() as ramq:
        tokens = ramq.accounts.tokens(user)
    if as_json:
        print_json({"items": tokens})
        return
    print_table(
        ("token", "user", "role", "state", "note", "made", "expires", "last used"),
        (
            (
                str(token.id),
                token.user,
                token.role,
                token.state,
                token.note or None,
                token.created_at,
                token.expires_at,
                token.used_at,
            )
            for token in tokens
        ),
        empty="There are no tokens of users: ramq token create USER",
    )


@app.command()
def revoke(
    token_id: Annotated[int, typer.Argument(metavar="ID", help="A number that `ramq token list` shows.", min=1)],
) -> None:
    """Revoke a token. Sessions of the page that were begun with it end, too.

    Example: ramq token revoke 3
    """
    with services() as ramq:
        token = ramq.accounts.revoke(token_id, by=ramq.author)
    err().print(f"Token {token.id} of {token.user} is revoked. Web servers notice within seconds.", markup=False)
