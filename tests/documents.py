"""What the documents tell a person to type."""

from __future__ import annotations

import re
import shlex
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")), *DOCS.rglob("*.md")])
FENCED = re.compile(r"^ *```([a-z]*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")


@dataclass(frozen=True)
class Typed:
    """A line of shell, and what the page shows below it; None where it shows nothing."""

    line: str
    answer: str | None = None


def typed(content: str) -> list[Typed]:
    """What a person types of a page's blocks: ``sh`` blocks, and behind each ``$`` of ``console`` blocks."""
    found: list[Typed] = []
    for language, block in FENCED.findall(content):
        text = textwrap.dedent(block).replace("\\\n", " ")
        if language == "sh":
            found += [Typed(line) for line in text.splitlines() if line.strip() and not line.startswith("#")]
        elif language == "console":
            for part in text.removeprefix("$ ").split("\n$ "):
                line, _, answer = part.partition("\n")
                found.append(Typed(line, answer))
    return found


def commands_of(line: str) -> list[list[str]]:
    """The commands that a line of shell consists of, each as its words, without redirections and assignments."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&>;")
    lexer.commenters, lexer.whitespace_split = "#", True
    found: list[list[str]] = [[]]
    words = iter(lexer)
    for word in words:
        if set(word) == {">"}:
            next(words)
        elif set(word) <= set("|&;"):
            found.append([])
        elif found[-1] or not _ASSIGNMENT.match(word):
            found[-1].append(word)
    return [command for command in found if command]
