"""``ramq token``: access tokens for the API and the page."""

from __future__ import annotations

from typing import Annotated

import typer

from ramq.cli.output import err, out, print_json
from ramq.cli.search import Json  # noqa: TC001  (typer reads the annotations)

app = typer.Typer(no_args_is_help=True, help="Access tokens for the API and the page.\n\nExample: ramq token new ann")


def register(root: typer.Typer) -> None:
    """Add the commands."""
    root.add_typer(app, name="token")


@app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of its user, for logs and rate limits.")],
    scope: Annotated[str, typer.Option(help="read, write or admin; each includes the ones before it.")] = "read",
    as_json: Json = False,
) -> None:
    """Create a token. Prints the token, and an entry for RAMQ_API_TOKENS with only its hash. Nothing is stored.

    Example: ramq token new ann --scope write
    """
    from ramq.web.tokens import make_token  # noqa: PLC0415  (`--help` needs none of it)

    token, entry = make_token(name, scope)
    if as_json:
        print_json({"token": token, "entry": entry})
        return
    out().print(f"{token}\n{entry}", markup=False, soft_wrap=True)
    err().print("Give the first line to the user (shown once); add the second to RAMQ_API_TOKENS.")
