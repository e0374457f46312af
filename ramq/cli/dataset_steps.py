"""``ramq dataset generate`` and ``clean``: the data engine, which makes labels of models and drops wrong ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ramq.cli.context import services, settings_for
from ramq.cli.dataset_following import NameAt, Wait, finish_step
from ramq.cli.output import err, print_table
from ramq.cli.search import Json, not_empty

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from ramq.wiring import Services
    from storage.datasets.versions import VersionView


IMAGES_SHOWN = 10


def generate(
    name: NameAt,
    model: Annotated[
        str | None,
        typer.Option(metavar="M", help="Model of recognition; default: the one that search uses.", callback=not_empty),
    ] = None,
    captioner: Annotated[
        str | None,
        typer.Option(metavar="C", help="tag2text or none; default: as in the settings.", callback=not_empty),
    ] = None,
    wait: Wait = None,
    as_json: Json = False,
) -> None:
    """Add captions and tags that a model makes of every picture: the next version of a data set.

    Pictures that the model has not recognised yet are recognised first, by jobs.

    Example: ramq dataset generate pets --captioner none
    """
    settings = settings_for()
    with services(settings) as ramq:
        version = ramq.dataset_steps.generate(name, model=model, captioner=captioner, said_by=ramq.author)
        if told := ramq.dataset_steps.lacking(version):
            err().print(told, markup=False, soft_wrap=True)
        finish_step(ramq, settings, version, wait=wait, as_json=as_json)


def clean(
    name: NameAt,
    regions: Annotated[
        str | None,
        typer.Option(
            metavar="R", help="located: regions that a detector finds, the default where a worker has one; or whole."
        ),
    ] = None,
    detector: Annotated[
        str | None, typer.Option(metavar="D", help="Detector; default: as in the settings.", callback=not_empty)
    ] = None,
    recogniser: Annotated[
        str | None,
        typer.Option(metavar="M", help="Model that sees the regions; default: as in the settings.", callback=not_empty),
    ] = None,
    outlier_share: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of a tag's regions that are outliers; 0: none.")
    ] = 0.1,
    clusters: Annotated[
        int | None, typer.Option(metavar="K", help="Clusters of each tag; default: by its number of regions.")
    ] = None,
    least: Annotated[int, typer.Option(metavar="N", help="A tag with fewer regions loses none as outliers.")] = 10,
    contradiction: Annotated[
        bool,
        typer.Option(
            "--contradiction/--no-contradiction", help="Whether a region contradicts a tag that the model does not see."
        ),
    ] = True,
    threshold: Annotated[
        float | None,
        typer.Option(metavar="T", help="Score below which the model does not see a tag; default: the tag's own."),
    ] = None,
    no_region: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT", help="drop (default) or keep tags of pictures in which no region of them is found."
        ),
    ] = None,
    several_regions: Annotated[
        str | None,
        typer.Option(
            metavar="HOW", help="all (default): a tag is dropped if all its regions speak against it; any: if one does."
        ),
    ] = None,
    wait: Wait = None,
    as_json: Json = False,
) -> None:
    """Drop wrong tags of pictures: the next version of a data set.

    A tag is dropped from a picture whose regions of it are outliers among all of the tag's regions, or in which the
    model does not see it, or in which there are none. What people said is kept. Without a detector each picture is its
    own region.

    Example: ramq dataset clean pets --outlier-share 0.05
    """
    settings = settings_for()
    with services(settings) as ramq:
        version = ramq.dataset_steps.clean(
            name,
            detector=detector,
            recogniser=recogniser,
            regions=regions,
            outlier_share=outlier_share,
            clusters=clusters,
            min_regions=least,
            contradiction=contradiction,
            threshold=threshold,
            no_region=no_region,
            several_regions=several_regions,
            said_by=ramq.author,
        )
        if not as_json:
            _tell_cleaned_before(ramq, version)
        finish_step(ramq, settings, version, wait=wait, as_json=as_json)


def _tell_cleaned_before(ramq: Services, version: VersionView) -> None:
    """Say if the version that is cleaned was made by cleaning, since outliers are dropped each time."""
    by_id = {each.id: each for each in ramq.datasets.versions(version.name)}
    before = by_id.get(version.parent_id or 0)
    while before is not None and before.step not in {"clean", "build", "import"}:
        before = by_id.get(before.parent_id or 0)
    share = version.settings["cleaning"]["outlier_share"]
    if before is None or before.step != "clean" or not share:
        return
    err().print(
        f"Version {before.number} was cleaned already: another {share:.0%} of each tag's regions are dropped as "
        "outliers. --outlier-share 0 drops none.",
        style="yellow",
        markup=False,
        soft_wrap=True,
    )


def step_rows(version: VersionView) -> dict[str, str]:
    """Return what the step of a version did, as titles and texts; none for steps that are not of this file."""
    if (made := version.counts.get("generated")) is not None:
        added = ", ".join(f"{origin} {count:,}" for origin, count in made["added"].items()) or "none"
        images = made.get("failed_images", {})
        failed = ", ".join(f"{name} {count:,}{_images(images.get(name))}" for name, count in made["failed"].items())
        return {
            "recognised": f"{made['recognised']:,} of {made['pictures']:,} images, {made['captions']:,} new captions"
            + (f", {changed:,} changed since and left as they were" if (changed := made.get("changed", 0)) else ""),
            "added": added,
            "not seen": failed or "none",
            "unknown": f"{made['unknown']:,} tags that the vocabulary lacks",
        }
    if (made := version.counts.get("cleaned")) is not None:
        skipped = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in made["skipped"].items())
        return {
            "cleaned": f"{made['labels']:,} labels of {made['tags']:,} tags: {made['kept']:,} kept, "
            f"{sum(made['dropped'].values()):,} dropped; people had confirmed {made['confirmed_by_people']:,} more",
            "regions": f"{made['regions']:,}; {made['not_looked_at']:,} labels whose pictures were not looked at",
            "skipped": f"{skipped or 'no'} tags",
        }
    return {}


def _images(image_ids: Sequence[int] | None) -> str:
    if not image_ids:
        return ""
    more = ", …" if len(image_ids) > IMAGES_SHOWN else ""
    return f" (images {', '.join(map(str, image_ids[:IMAGES_SHOWN]))}{more})"


def print_cleaned(tags: Sequence[Mapping[str, Any]]) -> None:
    """Print what cleaning did to tags."""
    print_table(
        ("tag", "labels", "kept", "dropped", "regions", "clusters", "skipped"),
        (
            (
                each["name"],
                each["labels"],
                each["kept"],
                ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in each["dropped"].items()) or None,
                each["regions"],
                each["clusters"],
                each["skipped"] and each["skipped"].replace("_", " "),
            )
            for each in tags
        ),
        keep=("tag",),
        empty="No labels yet.",
    )
