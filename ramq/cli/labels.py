"""``ramq labels``: the label system: tags with their synonyms, built from captions and lists."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ramq.cli.context import services, settings_for
from ramq.cli.output import err, out, print_json, print_table
from ramq.cli.search import ArchiveOf, Json  # noqa: TC001  (typer reads the annotations)
from storage.errors import UsageError
from storage.results.views import COMPOSED
from storage.search.views import SearchQuery
from storage.texts import plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ram_core.labels import LabelGroup, LabelSystem
    from ram_core.labels.candidates import CandidateCounter
    from ram_core.labels.wordnet import WordNet
    from ram_core.vocabulary import TagVocabulary

app = typer.Typer(
    no_args_is_help=True,
    help="Label systems: tags with their synonyms, in a text file.\n\nExample: ramq labels synonyms lite",
)

_TABLES = (".txt", ".csv", ".jsonl", ".labels")
_FORMS = frozenset({"plural", "lemma", "spelling"})  # origins

Column = Annotated[str | None, typer.Option(metavar="C", help="Column of captions in a table; default: caption.")]
Of = Annotated[
    str | None,
    typer.Option(
        "--vocabulary", metavar="V", help="A model, or a .labels, .txt, .csv or .jsonl file; default: RAMQ_MODEL."
    ),
]
Target = Annotated[str, typer.Argument(metavar="FILE|MODEL", help="A .labels, .txt, .csv or .jsonl file, or a model.")]
WordNetOf = Annotated[
    Path | None,
    typer.Option("--wordnet", metavar="PATH", help="Add synonyms from this WordNet: its folder, or a JSON file."),
]


def register(root: typer.Typer) -> None:
    """Add the commands."""
    root.add_typer(app, name="labels")


@contextmanager
def label_errors() -> Iterator[None]:
    """Report errors of labels, captions and vocabularies as usage errors."""
    from ram_core.errors import VocabularyError  # noqa: PLC0415

    try:
        yield
    except VocabularyError as error:
        raise UsageError(str(error)) from error


def vocabulary_of(name: str | None) -> TagVocabulary:
    """Return the vocabulary of a file or model; default: of the model in the settings. Raises ``VocabularyError``."""
    from ram_core.registry import load_vocabulary  # noqa: PLC0415  (`--help` needs none of it)
    from ram_core.vocabulary_file import read_vocabulary  # noqa: PLC0415

    settings = settings_for()
    if name is not None and Path(name).suffix.lower() in _TABLES:
        return read_vocabulary(Path(name))
    return load_vocabulary(name or settings.model, settings.models_path)


@app.command()
def build(
    captions: Annotated[
        list[Path] | None, typer.Option(metavar="F", help="Captions: .txt, .csv, .jsonl or .parquet (repeatable).")
    ] = None,
    column: Column = None,
    archive: ArchiveOf = None,
    lists: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE|MODEL", help="Tags to include; the first list's ids stay (repeatable)."),
    ] = None,
    min_count: Annotated[int, typer.Option(metavar="N", min=1, help="Least captions of a candidate.")] = 10,
    top: Annotated[int | None, typer.Option(metavar="N", min=1, help="Most candidates.")] = None,
    wordnet: WordNetOf = None,
    to: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="File to write; default: stdout.")] = None,
    as_json: Json = False,
) -> None:
    """Build a label system from lists, and from what captions name often. People then edit the file.

    With --archive, the captions of an archive's images count, except those composed from tags.

    Example: ramq labels build --captions captions.txt --lists birds.txt --min-count 5 --out birds.labels
    """
    from ram_core.labels.synonyms import merged  # noqa: PLC0415

    if not (captions or archive or lists):
        raise UsageError("nothing to build from; give --captions FILE, --archive ARCHIVE or --lists FILE")
    with label_errors():
        given = [_system_or_vocabulary(each) for each in lists or ()]
        counter = _count(captions or [], column, archive)
        system = merged(given, counter.candidates(min_count, top), _wordnet(wordnet))
    if not system.groups:
        raise UsageError(f"no name is in {min_count} captions or more; lower --min-count, or give more captions")
    if to is not None:
        _write(to, system)
    if as_json:
        print_json({"captions": counter.captions, "items": _data(system)})
        return
    if to is None:
        out().print(system.text(), end="", markup=False, soft_wrap=True)
    seen = f"{plural(counter.captions, 'caption')}, " if captions or archive else ""
    err().print(f"{seen}{plural(len(system.groups), 'tag')}.", markup=False)


@app.command()
def show(target: Target, as_json: Json = False) -> None:
    """Show the tags of a file or model, and how many names each has.

    Example: ramq labels show lite
    """
    with label_errors():
        system = _system(target, None)
    if as_json:
        print_json({"items": _data(system)})
        return
    print_table(
        ("id", "tag", "names"), ((str(group.id), group.names[0].text, len(group.names)) for group in system.groups)
    )


@app.command()
def synonyms(
    target: Target,
    wordnet: WordNetOf = None,
    without_forms: Annotated[
        bool, typer.Option("--without-forms", help="Leave out plurals, base forms and other spellings.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the synonyms of each tag, with their origin.

    Example: ramq labels synonyms birds.labels --without-forms
    """
    with label_errors():
        system = _system(target, wordnet)
    if without_forms:
        system = replace(system, groups=tuple(map(_without_forms, system.groups)))
    if as_json:
        print_json({"items": _data(system)})
        return
    rows = (
        (str(group.id), group.names[0].text, name.text, name.origin or "given")
        for group in system.groups
        for name in group.names[1:]
    )
    print_table(("id", "tag", "synonym", "origin"), rows, empty="No tag has a synonym.")


def _without_forms(group: LabelGroup) -> LabelGroup:
    own, *others = group.names
    return replace(group, names=(own, *(name for name in others if name.origin not in _FORMS)))


def _system(target: str, wordnet: Path | None) -> LabelSystem:
    """Return a file of labels as it is, and any other tags with the synonyms that are found for them."""
    from ram_core.labels.label_file import LabelSystem  # noqa: PLC0415
    from ram_core.labels.synonyms import label_system, with_synonyms  # noqa: PLC0415

    found = _system_or_vocabulary(target)
    if not isinstance(found, LabelSystem):
        return label_system(found, _wordnet(wordnet))
    return with_synonyms(found.groups, _wordnet(wordnet)) if wordnet is not None else found


def _system_or_vocabulary(target: str) -> LabelSystem | TagVocabulary:
    from ram_core.labels.label_file import SUFFIX, LabelSystem  # noqa: PLC0415

    return LabelSystem.read(target) if Path(target).suffix.lower() == SUFFIX else vocabulary_of(target)


def _wordnet(path: Path | None) -> WordNet | None:
    from ram_core.labels.wordnet import WordNet  # noqa: PLC0415

    return None if path is None else WordNet.load(path)


def _count(captions: list[Path], column: str | None, archive: str | None) -> CandidateCounter:
    from ram_core.labels.candidates import CandidateCounter  # noqa: PLC0415
    from ram_core.labels.caption_files import read_captions  # noqa: PLC0415

    counter = CandidateCounter()
    for path in captions:
        for caption in read_captions(path, column):
            counter.add(caption)
    if archive is not None:
        with services() as ramq:
            for hit in ramq.search.export(SearchQuery(archive=archive))[1]:
                if hit.caption and hit.captioner != COMPOSED and not hit.caption_contradicts:
                    counter.add(hit.caption)
    return counter


def _write(path: Path, system: LabelSystem) -> None:
    try:
        path.write_text(system.text(), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}; give another --out") from error


def _data(system: LabelSystem) -> list[dict[str, object]]:
    return [
        {
            "id": group.id,
            "name": group.names[0].text,
            "names": [{"name": name.text, "origin": name.origin or "given"} for name in group.names],
            "comments": [line.removeprefix("#").strip() for line in group.above if line],
        }
        for group in system.groups
    ]
