"""``ramq dataset evaluate``: which of two generations tags the held-out pictures of a data set better."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ramq.cli.context import services
from ramq.cli.dataset_following import NameAt  # noqa: TC001  (typer reads the annotations)
from ramq.cli.output import err, print_json, print_table
from ramq.cli.search import Json  # noqa: TC001  (typer reads the annotations)
from storage.texts import plural, visible

if TYPE_CHECKING:
    from ramq.services.dataset_evaluation import SetComparison, TagScore


def evaluate(
    name: NameAt,
    before: Annotated[int, typer.Option(metavar="GENERATION", help="Number of a generation; see `ramq generations`.")],
    after: Annotated[int, typer.Option(metavar="GENERATION", help="Number of another one.")],
    by_people: Annotated[
        bool, typer.Option("--by-people", help="Compare only what people said of a tag of a picture.")
    ] = False,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="Tags to list.")] = 20,
    examples: Annotated[int, typer.Option(metavar="N", min=0, help="Changed pictures to list of each tag.")] = 3,
    as_json: Json = False,
) -> None:
    """Compare the tags that two generations give to the validation pictures with those of the data set.

    No picture is read: both must have recognised the archives. Tags of a data set that were assigned by one of the
    generations speak for it, so only what comes from captions, manifests and people makes a fair comparison.

    Example: ramq dataset evaluate pets --before 1 --after 2
    """
    with services() as ramq:
        found = ramq.dataset_evaluation.compare(
            name, before, after, by_people=by_people, limit=limit, examples=examples
        )
    if as_json:
        print_json(found)
        return
    print_table(
        ("tag", "images", "precision", "after", "recall", "after", "AP", "after", "better", "worse"),
        (
            (
                tag.name,
                tag.images,
                *(_share(each.hits, each.assigned) for each in (tag.before, tag.after)),
                *(_share(each.hits, tag.images) for each in (tag.before, tag.after)),
                *(_precision(each) for each in (tag.before, tag.after)),
                tag.better,
                tag.worse,
            )
            for tag in found.tags
        ),
        keep=("tag",),
        empty="The held-out pictures have no labels to compare with.",
    )
    print_table(
        ("tag", "image", "now", "right", "file"),
        (
            (tag.name, each.image_id, "has it" if each.is_assigned else "no longer has it", each.is_better, each.uri)
            for tag in found.tags
            for each in tag.examples
        ),
        keep=("tag", "image"),
        empty="No picture changed.",
    )
    _tell(found)


def _share(part: int, whole: int) -> str | None:
    return f"{part / whole:.2f} ({part} of {whole})" if whole else None


def _precision(score: TagScore) -> str | None:
    return None if score.average_precision is None else f"{score.average_precision:.2f}"


def _tell(found: SetComparison) -> None:
    before, after = ("-" if each is None else f"{each:.3f}" for each in (found.before, found.after))
    about = f"{found.version.name}@{found.version.number}"
    compared = f"{plural(found.labels, 'label')}, of which people said {found.by_people:,}"
    lines = [
        f"{plural(found.images, 'held-out picture')} of {about} with {compared}.",
        f"Mean average precision: {before} before, {after} after.",
    ]
    if found.without_record:
        lines.append(f"Left out: {plural(found.without_record, 'picture')} that one generation has not recorded.")
    for line in lines:
        err().print(visible(line), markup=False, soft_wrap=True)
