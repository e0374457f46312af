"""``ramq dataset``: data sets for training, from what is recognised, what people said, and captions of their own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ramq.cli import dataset_exchange, dataset_review
from ramq.cli.context import services, settings_for
from ramq.cli.dataset_evaluation import evaluate
from ramq.cli.dataset_following import NameAt, Wait, described, finish_step, reading_sources
from ramq.cli.dataset_steps import clean, generate, print_cleaned, step_rows
from ramq.cli.output import agree, err, print_json, print_table
from ramq.cli.search import Json, not_empty
from storage.texts import plural, visible

if TYPE_CHECKING:
    from collections.abc import Callable

    from ramq.services.dataset_views import PictureView
    from storage.datasets.versions import VersionView

app = typer.Typer(
    no_args_is_help=True,
    help="Data sets for training: pictures with captions and tags, in versions that never change.\n\n"
    "Example: ramq dataset build birds 'archive:holiday tag:bird'",
)
dataset_review.add_to(app)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the data set.")]


def register(root: typer.Typer) -> None:
    """Add the commands."""
    dataset_exchange.register(app)
    app.command()(generate)
    app.command()(clean)
    app.command()(evaluate)
    root.add_typer(app, name="dataset")


@app.command()
def build(
    name: Name,
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE…", help="An archive or a folder in it, a search, a manifest; several add up."),
    ],
    captions: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Captions: .csv, .tsv, .jsonl, .parquet, .json.", callback=not_empty),
    ] = None,
    caption_column: Annotated[
        str | None,
        typer.Option(metavar="C", help="Column of captions, of manifests and of FILE.", callback=not_empty),
    ] = None,
    validation: Annotated[float, typer.Option(metavar="SHARE", help="Share of pictures for validation.")] = 0.1,
    near: Annotated[
        float | None,
        typer.Option(metavar="COSINE", help="Pictures at least so similar are in one split; default: 0.9 or 0.97."),
    ] = None,
    vocabulary: Annotated[
        str | None, typer.Option(metavar="V", help="Tags of another vocabulary; default: of the generation in use.")
    ] = None,
    wait: Wait = None,
    as_json: Json = False,
) -> None:
    """Build a data set, or its next version, from images that ramq has recognised.

    Tags are those assigned, as people corrected them, and those that captions name.

    Example: ramq dataset build pets s3://photos/pets "archive:holiday tag:dog" --captions captions.csv
    """
    from ramq.services.dataset_views import BuildRequest  # noqa: PLC0415  (`--help` needs none of it)

    request = BuildRequest(
        sources=[_local(source) for source in sources],
        captions=captions,
        caption_column=caption_column,
        validation=validation,
        near=near,
        vocabulary=vocabulary,
    )
    settings = settings_for()
    with services(settings) as ramq:
        with reading_sources():
            version = ramq.datasets.build(name, request, by=ramq.author)
        if not as_json:
            dataset_exchange.tell_left_out(version)
        finish_step(ramq, settings, version, wait=wait, as_json=as_json)


@app.command("list")
def list_sets(as_json: Json = False) -> None:
    """List the data sets with their newest versions; with two if the newest is not done.

    Example: ramq dataset list
    """
    with services() as ramq:
        found = ramq.datasets.list(with_done=True)
    if as_json:
        print_json({"items": found})
        return
    _print_versions(found, empty="No data sets yet. Make one with `ramq dataset build NAME SOURCE`.")


@app.command()
def show(
    name: Annotated[
        str, typer.Argument(metavar="NAME[@VERSION]", help="A data set; without a number its newest version.")
    ],
    image: Annotated[
        str | None,
        typer.Option(metavar="IMAGE", help="Show what it has of this image: number, key or URI.", callback=not_empty),
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=0, help="Tags to list.")] = 20,
    as_json: Json = False,
) -> None:
    """Show a data set: its versions, counts and tags; or with --image, one picture with its labels and their reasons.

    Example: ramq dataset show pets@2 --limit 50
    """
    with services() as ramq:
        version = ramq.datasets.newest(name)
        if image is not None:
            found = ramq.datasets.picture(version, ramq.images.find(image))
            is_removed = any(each.reason == "removed" for each in found.labels)
            parse = ramq.datasets.parser(version) if is_removed and found.captions and not as_json else _nothing
            _print_picture(found, parse, as_json=as_json)
            return
        versions = ramq.datasets.versions(version.name)
        tags = ramq.datasets.tags(version)
        deleted = ramq.datasets.deleted(version)
        is_cleaned = version.step == "clean" and version.state == "done"
        cleaned = ramq.dataset_steps.cleaned_tags(f"{version.name}@{version.number}") if is_cleaned else []
    if as_json:
        content = {"version": version, "versions": versions, "tags": tags, "deleted_since": deleted}
        print_json(content | ({"cleaned": cleaned} if is_cleaned else {}))
        return
    _print_versions(versions)
    _print_counts(version, deleted)
    if is_cleaned:
        print_cleaned(cleaned[:limit])
        return
    print_table(
        ("tag", "kept", "dropped", "origins", "reasons"),
        (
            (each.name, each.kept, sum(each.dropped.values()), _by(each.origins) or None, _by(each.dropped) or None)
            for each in tags[:limit]
        ),
        keep=("tag",),
        empty="No labels yet.",
    )
    if len(tags) > limit:
        err().print(f"{plural(len(tags) - limit, 'more tag')}; --limit shows more.", style="dim")


@app.command()
def diff(
    old: NameAt,
    new: NameAt,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="Tags to list.")] = 20,
    as_json: Json = False,
) -> None:
    """Compare the labels of two versions: how many pictures gained each tag, and how many lost it.

    Example: ramq dataset diff pets@1 pets@2
    """
    with services() as ramq:
        found = ramq.datasets.compare(old, new)
    if as_json:
        print_json(found)
        return
    print_table(
        ("tag", "added", "removed"),
        ((each.name, each.added, each.removed) for each in found.tags[:limit]),
        empty="Both have the same labels.",
    )
    added, removed = sum(each.added for each in found.tags), sum(each.removed for each in found.tags)
    differ = "differs" if len(found.tags) == 1 else "differ"
    told = f"{plural(len(found.tags), 'tag')} {differ}: {plural(added, 'label')} added, {removed:,} removed."
    err().print(told, style="dim")


@app.command()
def correct(name: Name, wait: Wait = None, as_json: Json = False) -> None:
    """Make the next version of a data set, with the corrections that people made since its newest one.

    Example: ramq dataset correct pets
    """
    settings = settings_for()
    with services(settings) as ramq:
        version = ramq.datasets.correct(name, by=ramq.author)
        if not as_json:
            said = version.settings
            err().print(f"Tags that people say are there: {said['present']:,}; are not: {said['removed']:,}.")
        finish_step(ramq, settings, version, wait=wait, as_json=as_json)


@app.command()
def pause(name: Name, as_json: Json = False) -> None:
    """Pause the step of a data set. Tasks that are done stay done.

    Example: ramq dataset pause pets
    """
    _steer(name, "pause", as_json=as_json)


@app.command()
def resume(name: Name, wait: Wait = None, as_json: Json = False) -> None:
    """Resume the step of a data set that is paused or has failed.

    Example: ramq dataset resume pets
    """
    settings = settings_for()
    with services(settings) as ramq:
        finish_step(ramq, settings, ramq.datasets.steer(name, "resume"), wait=wait, as_json=as_json)


@app.command()
def cancel(name: Name, as_json: Json = False) -> None:
    """Cancel the step of a data set. Its earlier versions stay.

    Example: ramq dataset cancel pets
    """
    _steer(name, "cancel", as_json=as_json)


@app.command()
def delete(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Delete a data set with all its versions. Pictures, results and corrections stay.

    Example: ramq dataset delete pets --yes
    """
    with services() as ramq:
        found = ramq.datasets.versions(name)
        if not yes:
            agree(f"Delete the data set {name} with {plural(len(found), 'version')}?")
        count = ramq.datasets.delete(name)
    if as_json:
        print_json({"name": name, "versions": count})
    else:
        err().print(f"Deleted {name} with {plural(count, 'version')}.", markup=False)


def _local(source: str) -> str:
    """Return a source; a folder of this machine by its whole path, since only the command knows where it stands."""
    is_folder = "://" not in source and not source.isdecimal() and Path(source).is_dir()
    return str(Path(source).absolute()) if is_folder else source


def _steer(name: str, action: Literal["pause", "resume", "cancel"], *, as_json: bool) -> None:
    with services() as ramq:
        version = ramq.datasets.steer(name, action)
    if as_json:
        print_json(version)
    else:
        err().print(described(version), markup=False, soft_wrap=True)


def _print_versions(found: list[VersionView], empty: str = "") -> None:
    print_table(
        ("version", "step", "state", "images", "validation", "labels", "dropped", "sha256", "by", "when"),
        (
            (
                f"{each.name}@{each.number}",
                each.step,
                each.state,
                each.counts.get("images"),
                each.counts.get("validation"),
                each.counts.get("kept"),
                sum(each.counts["dropped"].values()) if "dropped" in each.counts else None,
                each.sha256 and each.sha256[:12],
                each.said_by,
                each.created_at,
            )
            for each in found
        ),
        keep=("state",),
        empty=empty,
    )


_COMPARED = {"pooled": ", compared by kept features", "vector": ", compared by the vectors of search"}


def _print_counts(version: VersionView, deleted: int) -> None:
    counts = version.counts
    if version.state != "done":
        err().print(described(version), markup=False, soft_wrap=True)
        return
    rows = {
        "images": f"{counts['images']:,}  ({counts['validation']:,} for validation)",
        "copies": f"{counts['in_groups']:,} images in {plural(counts['groups'], 'group')} of copies and near copies"
        + _COMPARED.get(counts.get("compared_by", ""), ""),
        "captions": _by(counts["captions"]) or "none",
        "labels": f"{counts['kept']:,} of {plural(counts['tags'], 'tag')}  ({_by(counts['labels']) or 'none'})",
        "dropped": _by(counts["dropped"]) or "none",
        "unlabelled": f"{counts['without_labels']:,} images without a label",
        "left out": _by(counts.get("left_out", {})) or "none",
        "deleted": f"{deleted:,} images since it was made",
        "sha256": version.sha256 or "-",
    }
    if version.step == "correct":
        said = version.settings
        rows["corrected"] = f"there {said['present']:,}, removed {said['removed']:,}"
    for title, value in (rows | step_rows(version)).items():
        sys.stdout.write(f"{title:<11} {value}\n")


def _nothing(_caption: str) -> list[int]:
    return []


def _print_picture(view: PictureView, parse: Callable[[str], list[int]], *, as_json: bool) -> None:
    """Print a picture. ``parse`` finds the tags that a caption names."""
    if as_json:
        print_json(view)
        return
    removed = {each.tag_id: each.name for each in view.labels if each.reason == "removed"}
    split = "validation" if view.is_validation else "training"
    sys.stdout.write(f"{view.image_id}  {visible(view.uri)}  {split}\n")
    for each in view.captions:
        named = ", ".join(sorted({removed[tag_id] for tag_id in parse(each["caption"]) if tag_id in removed}))
        left_out = f"  (left out of training: it names {visible(named)}, which a person removed)" if named else ""
        sys.stdout.write(f"  {each['origin']}: {visible(each['caption'])}{left_out}\n")
    print_table(
        ("tag", "origins", "dropped", "certainty"),
        ((each.name, ", ".join(each.origins), each.reason, each.certainty) for each in view.labels),
        keep=("dropped",),
        empty="It has no labels.",
    )


def _by(counts: dict[str, int]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in counts.items())
