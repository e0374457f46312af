"""``ramq``: all commands together, and the exit code of each kind of error.

* 0: success.
* 1: the command failed.
* 2: wrong usage.
* 3: a required service cannot be reached.
* 130: Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Annotated

import typer

from ramq.cli.output import err, shortened
from ramq.limits import allow_open_files
from storage.errors import ConflictError, ForbiddenError, ModelMissingError, RamqError, TransientError, UsageError
from storage.texts import visible, without_secrets

COMMANDS = {
    "stack": ("up", "worker", "web"),
    "jobs": ("enqueue", "jobs", "job", "pause", "resume", "cancel", "failures", "retry"),
    "stages": ("read", "locate", "crops", "look", "stages"),
    "search": ("search", "tags", "show"),
    "metadata": ("metadata", "facets", "forget-places"),
    "tag": ("tag",),
    "line": ("line",),
    "region": ("region",),
    "keyword": ("keyword",),
    "archive": ("archives",),
    "duplicates": ("duplicates",),
    "missing": ("missing",),
    "export": ("export",),
    "sidecars": ("sidecars",),
    "erase": ("delete", "erasures", "forget"),
    "scaling": ("backlog", "estimate"),
    "admin": ("db", "index", "doctor", "workers"),
    "archive_changes": ("archive",),
    "watch": ("watch",),
    "models": ("models",),
    "generations": ("generations",),
    "vocab": ("vocab",),
    "teach": ("teach",),
    "labels": ("labels",),
    "parse": ("parse",),
    "evaluate": ("evaluate",),
    "train": ("train", "trainings"),
    "dataset": ("dataset",),
    "policy": ("policy",),
    "token": ("token",),
    "user": ("user",),
    "quota": ("quota",),
}
"""The files of this package, and the commands in each."""


def _version(value: bool) -> None:
    if value:
        from ramq.version import described  # noqa: PLC0415

        typer.echo(f"ramq {described()}")
        raise typer.Exit


def root(
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Tag, caption and search large image archives."""


def command_line(typed: str = "") -> typer.Typer:
    """Return the command line with only the file of the command ``typed``, or with all files if there is no such one.

    Loading and declaring all commands takes as long as running one of them.
    """
    app = typer.Typer(
        name="ramq",
        help="Tag, caption and search large image archives.\n\nExample: ramq enqueue ./photos --wait",
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        pretty_exceptions_enable=False,
    )
    app.callback()(root)
    known = [file for file, names in COMMANDS.items() if typed in names]
    for file in known or COMMANDS:
        import_module(f"ramq.cli.{file}").register(app)
    return app


def main() -> None:
    """Run the command line. Turn every expected error into one line and an exit code."""
    allow_open_files()
    try:
        command_line(sys.argv[1] if len(sys.argv) > 1 else "")()
    except RamqError as error:
        _complain(without_secrets(str(error)))
        sys.exit(_exit_code(error))
    except UnicodeEncodeError as error:
        # Either an argument is not valid text and cannot be stored, or this terminal cannot show some characters.
        odd = error.object[error.start : error.end]
        _complain(f"{odd} cannot be written as {error.encoding}; check the arguments, and the variable LANG")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output closed the pipe
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  (prevents an error at exit)
        sys.exit(0)
    except Exception as error:  # noqa: BLE001  (reported in one line, with its traceback in a file)
        said = without_secrets(f"{type(error).__name__}: {error}".splitlines()[0])
        _complain(f"this is a bug in ramq: {said}. The traceback is in {_kept_trace()}. Please report it.")
        sys.exit(1)


def _complain(message: str) -> None:
    """Print an error in one line. Very long words in it are shortened."""
    err().print(f"ramq: {shortened(visible(message))}", style="red", markup=False, soft_wrap=True)


def _kept_trace() -> str:
    import tempfile  # noqa: PLC0415
    import traceback  # noqa: PLC0415

    with tempfile.NamedTemporaryFile("w", prefix="ramq-", suffix=".txt", delete=False) as file:
        file.write(without_secrets(traceback.format_exc()))
    return file.name


def _exit_code(error: RamqError) -> int:
    if isinstance(error, TransientError):
        return 3
    if isinstance(error, ForbiddenError | ConflictError | ModelMissingError):
        return 1
    return 2 if isinstance(error, UsageError) else 1


if __name__ == "__main__":
    main()
