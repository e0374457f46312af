"""``ramq models``: list, fetch, check, find and convert checkpoints."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ramq.cli.context import settings_for
from ramq.cli.output import err, file_size, out, print_json, print_table
from storage.errors import RamqError, ServiceUnavailableError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ram_core.checkpoints import CatalogueEntry, FileStatus, Listener
    from ram_core.trained import Trained

app = typer.Typer(
    help="Checkpoints: official RAM, RAM++, Tag2Text and their data files.\n\nExample: ramq models pull ram_plus",
    no_args_is_help=True,
)


def register(root: typer.Typer) -> None:
    """Add the commands."""
    root.add_typer(app, name="models")


Name = Annotated[str, typer.Argument(metavar="NAME", help="A name that `ramq models list` shows.")]
ModelsDir = Annotated[
    Path | None, typer.Option("--models-dir", metavar="DIR", help="Folder of checkpoints; default: RAMQ_MODELS_DIR.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout and nothing else.")]


@app.command("list")
def list_models(models_dir: ModelsDir = None, as_json: Json = False) -> None:
    """List the models, and how much of each is installed here.

    Example: ramq models list --json
    """
    from ram_core import checkpoints  # noqa: PLC0415  (numpy loads here, not for --help)
    from ram_core.trained import trained  # noqa: PLC0415

    folder = _folder(models_dir)
    rows = []
    with _model_errors():
        for each in checkpoints.catalogue():
            files = checkpoints.status(each.name, folder)
            size = sum(file.size_bytes for file in each.files)
            rows.append(
                {
                    "name": each.name,
                    "state": _state(each, files),
                    "size_bytes": size,
                    "size": file_size(size),
                    "summary": each.summary,
                    "path": str(folder / each.name) if each.files else None,
                    "files": [_file_data(file) for file in files],
                }
            )
        rows += [_trained_data(each) for each in trained(folder)]
    if as_json:
        print_json(rows)
        return
    print_table(
        ("name", "state", "size", "summary"),
        [(row["name"], row["state"], row["size"], row["summary"]) for row in rows],
    )
    err().print(f"Folder: {folder}", style="dim", markup=False)


@app.command()
def pull(
    name: Name,
    from_dir: Annotated[
        Path | None, typer.Option("--from", metavar="DIR", help="Copy the files from this folder, without network.")
    ] = None,
    mirror: Annotated[
        str | None,
        typer.Option(metavar="URL", envvar="RAMQ_MODELS_MIRROR", help="Download from here instead of the publishers."),
    ] = None,
    models_dir: ModelsDir = None,
) -> None:
    """Download a model's files. An interrupted pull is continued.

    Example: ramq models pull ram_plus

    Example: ramq models pull ram_plus --from /media/usb
    """
    from ram_core import checkpoints  # noqa: PLC0415

    folder = _folder(models_dir)
    with _model_errors():
        wanted = checkpoints.entry(name)
        if not wanted.files:
            err().print(f"{name} comes with ramq; there is nothing to pull.")
            return
        with _progress() as listener:
            files = checkpoints.pull(name, folder, mirror=mirror or None, from_dir=from_dir, listener=listener)
        lacking = [
            other
            for other in wanted.companions
            if any(file.state is not checkpoints.FileState.PRESENT for file in checkpoints.status(other, folder))
        ]
    for file in files:
        if file.detail:
            err().print(f"{file.name}: {file.detail}", markup=False)
    for other in lacking:
        err().print(f"For search by text and for your own tags, also run: ramq models pull {other}")
    out().print(str(folder / name), markup=False, soft_wrap=True)


@app.command()
def verify(name: Name, models_dir: ModelsDir = None, as_json: Json = False) -> None:
    """Read a model's files and compare their hashes. Exit 1 unless all are correct.

    Example: ramq models verify ram_plus
    """
    from ram_core import checkpoints  # noqa: PLC0415
    from ram_core.trained import SEPARATOR  # noqa: PLC0415

    if SEPARATOR in name:
        _verify_trained(name, models_dir, as_json=as_json)
        return
    with _model_errors():
        files = checkpoints.verify(name, _folder(models_dir))
    if as_json:
        print_json([_file_data(file) for file in files])
    elif files:
        print_table(("file", "state", "hash", ""), [(f.name, f.state.value, _hash(f), f.detail) for f in files])
    else:
        err().print(f"{name} comes with ramq; there is nothing to verify.")
    if any(file.state is not checkpoints.FileState.OK for file in files):
        raise typer.Exit(1)


@app.command()
def path(name: Name, models_dir: ModelsDir = None) -> None:
    """Print the folder of a model. Exit 1 if it is not complete.

    Example: ls $(ramq models path ram_plus)
    """
    from ram_core import checkpoints  # noqa: PLC0415
    from ram_core.trained import SEPARATOR, find_trained  # noqa: PLC0415

    folder = _folder(models_dir)
    with _model_errors():
        if SEPARATOR in name:
            out().print(str(find_trained(name, folder).folder), markup=False, soft_wrap=True)
            return
        if not checkpoints.entry(name).files:
            raise UsageError(f"{name} comes with ramq and has no folder")
        checkpoints.find(name, folder)
        out().print(str(checkpoints.path(name, folder)), markup=False, soft_wrap=True)


@app.command()
def convert(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Official .pth, or .safetensors.")],
    to: Annotated[Path, typer.Argument(metavar="OUT", help="The .safetensors file to write.")],
) -> None:
    """Write a smaller, faster .safetensors file with only the weights that are used.

    Example: ramq models convert ram_plus_swin_large_14m.pth ram_plus_swin_large_14m.safetensors
    """
    with _model_errors():
        if not checkpoint.is_file():
            raise UsageError(f"no such file: {checkpoint}")
        from ram_core.weights import convert as convert_weights  # noqa: PLC0415  (torch loads here)

        size = convert_weights(checkpoint, to)
    err().print(f"{to}: {file_size(size)}, was {file_size(checkpoint.stat().st_size)}", markup=False)


@app.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name: small letters, digits, and . _ - between.")],
    from_dir: Annotated[Path, typer.Option("--from", metavar="FOLDER", help="The folder that `ramq train` wrote.")],
    models_dir: ModelsDir = None,
) -> None:
    """Add a trained model. Prints the name under which jobs and workers use it.

    Example: ramq models add birds --from runs/birds
    """
    from ram_core.trained import add as add_trained  # noqa: PLC0415

    with _model_errors():
        added = add_trained(name, from_dir, _folder(models_dir))
    err().print(f"{added.summary}. Use it with: ramq enqueue SOURCE --model {added.name}", markup=False)
    out().print(added.name, markup=False)


def _verify_trained(name: str, models_dir: Path | None, *, as_json: bool) -> None:
    from ram_core.trained import find_trained  # noqa: PLC0415

    with _model_errors():
        found = find_trained(name, _folder(models_dir))
    fault = found.verify()
    state = "ok" if fault is None else "damaged"
    if as_json:
        print_json([{"model": name, "name": found.checkpoint.name, "state": state, "detail": fault or ""}])
    else:
        print_table(("file", "state", "hash", ""), [(found.checkpoint.name, state, "from its card", fault or "")])
    if fault is not None:
        raise typer.Exit(1)


def _trained_data(model: Trained) -> dict[str, object]:
    size = model.checkpoint.stat().st_size if model.checkpoint.is_file() else 0
    return {
        "name": model.name,
        "state": "trained",
        "size_bytes": size,
        "size": file_size(size),
        "summary": model.summary,
        "path": str(model.folder),
        "files": [],
        "card": model.card,
    }


def _folder(models_dir: Path | None) -> Path:
    return models_dir if models_dir is not None else settings_for().models_path


@contextmanager
def _model_errors() -> Iterator[None]:
    """Turn errors of ``ram_core`` into the errors that determine the exit code."""
    from ram_core.checkpoints import UnreachableError  # noqa: PLC0415
    from ram_core.errors import ModelError, UnknownModelError  # noqa: PLC0415

    try:
        yield
    except UnknownModelError as error:
        raise UsageError(str(error)) from error
    except UnreachableError as error:
        raise ServiceUnavailableError(str(error)) from error
    except (ModelError, OSError) as error:  # OSError: a full disk, or a folder that is not writable
        raise RamqError(str(error)) from error


@contextmanager
def _progress() -> Iterator[Listener]:
    """Show a progress bar for each file on stderr while it is downloaded."""
    from rich.progress import (  # noqa: PLC0415  (`list` and `path` need no bars)
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    from ram_core.checkpoints import Listener  # noqa: PLC0415

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err()) as bars:
        tasks = {}

        def progress(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done, total=total)

        yield Listener(progress=progress, note=lambda line: bars.console.print(line, markup=False))


def _state(entry: CatalogueEntry, files: list[FileStatus]) -> str:
    if not entry.files:
        return "installed"
    states = {file.state.value for file in files}
    if states == {"present"}:
        return "pulled"
    if "damaged" in states:
        return "damaged"
    return "not pulled" if states == {"missing"} else "incomplete"


def _file_data(file: FileStatus) -> dict[str, object]:
    return {
        "model": file.model,
        "name": file.name,
        "path": str(file.path),
        "state": file.state.value,
        "size_bytes": file.size_bytes,
        "sha256": file.sha256,
        "expected_sha256": file.expected_sha256,
        "pinned": file.pinned,
        "detail": file.detail,
    }


def _hash(file: FileStatus) -> str:
    if file.expected_sha256 is None:
        return "none published"
    return "published" if file.pinned else "recorded at first pull"
