"""Commands for stages beside recognition: read, locate, crops, look, stages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import wraps
from inspect import Signature, signature
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ramq.cli.context import services, settings_for
from ramq.cli.jobs import follow_started
from ramq.cli.output import agree, duration, err, file_size, out, print_json, print_table
from ramq.cli.search import Json, LikeOf, Query, RelevanceOf, Strict, liking, narrowed, pointing_into
from ramq.cli.search import read as read_query
from ramq.services import stage_serving
from storage.errors import UsageError
from storage.results.spaces import SPACES
from storage.search.views import SearchQuery  # noqa: TC001  (the decorator reads the annotations)
from storage.texts import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ramq.services.stages import Estimate
    from ramq.settings import Settings
    from ramq.wiring import Services

app = typer.Typer(
    help="What made the results of stages beside recognition, such as the text in images.\n\nExample: ramq stages",
    invoke_without_command=True,
)

GenerationId = Annotated[
    int, typer.Argument(metavar="ID", help="A number that `ramq stages` shows.", min=1, max=2**15 - 1)
]


DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say how many images there are, and what they cost.")]


def register(root: typer.Typer) -> None:
    """Add the commands."""
    root.command()(read)
    root.command()(locate)
    root.command()(crops)
    root.command()(look)
    root.add_typer(app, name="stages")


@app.callback()
def list_stages(context: typer.Context, as_json: Json = False) -> None:
    """List the generations of further stages, and which one search uses; or run one of the commands below.

    Example: ramq stages
    """
    if context.invoked_subcommand is not None:
        return
    with services() as ramq:
        found = ramq.stages.generations()
    if as_json:
        print_json({"items": found})
        return
    print_table(
        ("generation", "stage", "in use", "model", "images", "weights", "preprocessing"),
        (
            (
                str(g.id),
                g.stage,
                "yes" if g.is_default else "",
                g.model,
                g.images,
                g.weights_sha256[:12],
                g.preprocessing,
            )
            for g in found
        ),
        keep=("stage",),
        empty="No stage has results yet. Read the text in images with `ramq read`.",
    )


@app.command()
def use(generation_id: GenerationId) -> None:
    """Let search use the results of a generation for its stage.

    Example: ramq stages use 4
    """
    with services() as ramq:
        told = ramq.stages.use(generation_id)
    err().print(told, markup=False, soft_wrap=True)


@app.command()
def drop(generation_id: GenerationId, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Erase all results of a generation of a further stage: text, regions or vectors. Those of recognition stay.

    If search uses them, it uses the newest generation of the stage that is left. Says which one that is.

    Example: ramq stages drop 4
    """
    with services() as ramq:
        about = ramq.stages.about_drop(generation_id)
        if not yes:
            agree(about.question)
        report = ramq.stages.drop(generation_id)
    erased = stage_serving.results(about.stage, report.records)
    err().print(
        f"Generation {generation_id} was dropped. Erased: {erased}. {about.then}".rstrip(), markup=False, soft_wrap=True
    )


@dataclass(frozen=True, slots=True)
class Given:
    """What every command that starts a stage takes: which images, and how the jobs run."""

    narrow: SearchQuery
    query: Query = None
    like: LikeOf = None
    relevance: RelevanceOf = None
    priority: Annotated[str, typer.Option(help="low, normal or high.")] = "normal"
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end; exit 1 if anything failed.")] = False
    dry_run: DryRun = False
    strict: Strict = False
    as_json: Json = False


_WHICH = 4
"""The first so many of these say which images. The options of a command follow them."""


def starting(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of ``Given`` to a command, around its own. Pass the command what they say."""
    shared = list(signature(Given, eval_str=True).parameters.values())
    _, *own = signature(command, eval_str=True).parameters.values()

    @wraps(command)
    def with_options(narrow: SearchQuery, **named: Any) -> None:
        given = Given(narrow, **{each.name: named.pop(each.name) for each in shared[1:]})
        command(given, **named)

    with_options.__signature__ = Signature([*shared[:_WHICH], *own, *shared[_WHICH:]])  # type: ignore[attr-defined]
    return narrowed(with_options)


@starting
def read(
    given: Given,
    reader: Annotated[
        str | None, typer.Option(metavar="NAME", help="Model, for another script; default: RAMQ_READER.")
    ] = None,
) -> None:
    """Read the text in images that are recorded: all, those of an archive, or the hits of a search. Prints job numbers.

    Starts one job for each archive, and says how many images it has and how long it may take. Images whose text was
    read already, in the same version, are skipped.

    Example: ramq read "street sign" --wait
    """
    settings = settings_for()
    with pointing_into(given.query), services(settings) as ramq:
        start(ramq, settings, given, "text", reader)


@starting
def locate(
    given: Given,
    tags: Annotated[
        str | None, typer.Option(metavar="T,…", help="What to look for; default: the tags that each image has.")
    ] = None,
    masks: Annotated[bool, typer.Option("--masks", help="Also find the pixels of each region.")] = False,
    detector: Annotated[str | None, typer.Option(metavar="NAME", help="Default: RAMQ_DETECTOR.")] = None,
    segmenter: Annotated[str | None, typer.Option(metavar="NAME", help="Default: RAMQ_SEGMENTER.")] = None,
) -> None:
    """Find where tags are in recorded images: all, those of an archive, or the hits of a search. Prints job numbers.

    Starts one job for each archive, and says how many images it has and how long it may take. A detector has to be
    pulled first, and a segmenter for --masks: `ramq models list`.

    Images that were located already for the same tags are skipped. The order and case of --tags do not matter. Regions
    for other tags REPLACE the earlier ones of an image: name all tags that you want in one job. Without --tags, those
    that `ramq policy no-thing` names are left out.

    Example: ramq locate --tag dog --tags dog,ball --wait
    """
    settings = settings_for()
    wanted = [tag.strip() for tag in (tags or "").split(",") if tag.strip()]
    model = detector or settings.detector
    if masks or segmenter:
        model += f"+{segmenter or settings.segmenter}"
    with pointing_into(given.query), services(settings) as ramq:
        if "+" not in model and any(
            g.stage == "locate" and "+" in g.model and g.images for g in ramq.stages.generations()
        ):
            err().print("Regions with masks are there. New ones without masks take their place; --masks makes both.")
        start(ramq, settings, given, "locate", model, {"tags": wanted} if wanted else {})


@starting
def crops(
    given: Given,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Model of recognition; default: RAMQ_MODEL.")
    ] = None,
) -> None:
    """Make a vector of each region that was located, so that `ramq search --like-region 12/3` finds the like of it.

    Works on all located images, those of an archive, or the hits of a search. Starts one job for each archive, says how
    many images it has and how long it may take, and prints the job's number. Images whose regions did not change since
    are skipped.

    Example: ramq crops --wait
    """
    settings = settings_for()
    with pointing_into(given.query), services(settings) as ramq:
        start(ramq, settings, given, "crops", model)


@starting
def look(
    given: Given,
    space: Annotated[
        str, typer.Option(metavar="|".join(SPACES), help="Which vectors to make: a tower makes those but look.")
    ] = SPACES[0],
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Default: RAMQ_LOOK_MODEL, RAMQ_SIGLIP_MODEL, ….")
    ] = None,
) -> None:
    """Make a vector of how each recorded image looks. `ramq search --like 12` then finds what looks alike.

    With --space, make vectors of another space, with SigLIP, CLIP or DINO. Its tower has to be pulled first (`ramq
    models list`). --model also takes the name of a folder in RAMQ_MODELS_DIR with such a tower.

    Works on all recorded images, those of an archive, or the hits of a search. Starts one job for each archive, says
    how many images it has and how long it may take, and prints the job's number. Images that have such a vector
    already, in the same version, are skipped.

    Example: ramq look --wait

    Example: ramq look --space siglip --dry-run
    """
    if space not in SPACES:
        raise UsageError(f"there is no space {space!r}; choose one of {', '.join(SPACES)}")
    settings = settings_for()
    with pointing_into(given.query), services(settings) as ramq:
        start(ramq, settings, given, space, model)


def start(
    ramq: Services,
    settings: Settings,
    given: Given,
    stage: str,
    model: str | None,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Start a stage on the images that were asked for, and follow its jobs; or only say what that would cost."""
    query = replace(given.narrow, relevance=given.relevance)
    asked = liking(ramq, read_query(ramq, query, given.query, is_strict=given.strict), given.like)
    words = " ".join(filter(None, [given.query, f"like {given.like}" if given.like else None]))
    estimate = ramq.stages.estimate(stage, asked, model=model, options=options)
    if _told(estimate, as_json=given.as_json, dry_run=given.dry_run):
        return
    started = ramq.stages.start(
        stage, asked, words=words, priority=given.priority, model=model, options=options, by=ramq.author
    )
    follow_started(ramq, settings, started, wait=given.wait, as_json=given.as_json)


def _told(estimate: Estimate, *, as_json: bool, dry_run: bool) -> bool:
    """Say what new jobs cost: to stdout if that is all that was asked for (then return True), else to stderr."""
    if as_json and dry_run:
        print_json(estimate)
    elif not as_json:
        (out() if dry_run else err()).print(" ".join(_sentences(estimate)), markup=False, soft_wrap=True)
    for told in filter(None, (estimate.lacking, estimate.unused)):
        err().print(told, markup=False, soft_wrap=True)
    return dry_run


def _sentences(estimate: Estimate) -> list[str]:
    done = f", {estimate.done:,} of them done already" if estimate.done else ""
    said = [f"{plural(estimate.images, 'image')}{done}."]
    if estimate.tags is not None:
        said.append(f"{plural(round(estimate.tags), 'tag')} to look for in each.")
    if estimate.done == estimate.images:
        said.append("There is nothing left to do.")
    elif estimate.images_per_second is None or estimate.seconds is None:
        said.append("No rate is known yet for this model. `ramq job` shows the remaining time after the first minutes.")
    else:
        other = "" if estimate.is_alike else ", for other tags"
        rate = f"{estimate.images_per_second:,.3g} images/s"
        said.append(f"About {duration(estimate.seconds)}, at the rate of earlier jobs ({rate}{other}).")
    if estimate.vector_bytes:
        size = file_size(estimate.vector_bytes)
        said.append(
            f"Their vectors ({estimate.vector_size} numbers) take {size} in the database and again in the index."
        )
    return said
