"""Examples of queries, wherever they are shown, name tags that the default model has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ram_core.registry import load_vocabulary
from ramq.services.search import EXAMPLES
from storage.results.tags import Names
from storage.search.language import AllOf, AnyOf, FieldTerm, NotOf, TagTerm, parse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storage.search.language import Expression

ROOT = Path(__file__).resolve().parents[2]
_COMMAND = re.compile(r"ramq (?:search|tags|export) (?:-- )?(?:'([^'\n]+)'|\"([^\"\n]+)\")")
_TAG_OPTION = re.compile(r"ramq (?:search|tags|export)[^\n]*? --(?:tag|any|not) (?:'([^'\n]+)'|\"([^\"\n]+)\"|(\w+))")
_DOCUMENTED_IN_OPENAPI = re.compile(r'examples=\["([^"]+)"\]')
# Shows what happens to a mistake.
_MISTAKES = {"beach (castle OR"}


def shown() -> Iterator[tuple[str, str]]:
    """Every file that shows commands, with its text."""
    for pattern in ("README.md", "docs/*.md", "ramq/cli/*.py"):
        for path in sorted(ROOT.glob(pattern)):
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


def tags_in(tree: Expression | None) -> Iterator[str]:
    match tree:
        case TagTerm(name):
            yield name
        case NotOf(part):
            yield from tags_in(part)
        case AllOf(parts) | AnyOf(parts):
            for part in parts:
                yield from tags_in(part)
        case FieldTerm() | None:
            return


@pytest.fixture(scope="module")
def lite() -> Names:
    vocabulary = load_vocabulary("imagenet")
    count = len(vocabulary.names)
    return Names(1, tuple(vocabulary.names), (None,) * count, (0.5,) * count)


def test_examples_of_commands_name_tags_of_lite(lite: Names) -> None:
    queries = {(file, a or b) for file, text in shown() for a, b in _COMMAND.findall(text)}
    api = "ramq/web/deps.py"
    queries |= {(api, query) for query in _DOCUMENTED_IN_OPENAPI.findall((ROOT / api).read_text(encoding="utf-8"))}
    options = {(file, a or b or c) for file, text in shown() for a, b, c in _TAG_OPTION.findall(text)}
    assert len(queries) > 10
    assert len(options) > 3
    named = {(file, tag) for file, query in queries if query not in _MISTAKES for tag in tags_in(parse(query).where)}
    unknown = {(file, tag) for file, tag in named | options if not lite.ids(tag)}
    assert unknown == set()


def test_the_page_has_examples_in_any_vocabulary(lite: Names) -> None:
    assert lite.examples(EXAMPLES) == list(EXAMPLES)
    other = Names(2, ("yes", "no", "castle", "maybe"), (None,) * 4, (0.5,) * 4)
    examples = other.examples(EXAMPLES)
    assert examples[0] == "castle"
    assert all(other.ids(name) for name in examples)
    assert len(set(examples)) == 3
