"""What a job leaves out of an archive: known junk, sidecars, films, and what people's patterns say.

Patterns are those of ``.gitignore`` (git-scm.com/docs/gitignore): the last one that matches decides, ``!`` takes back,
and nothing is taken back below a folder that is left out. They come from four places, each after the one before:

1. ``ignored_by_default.txt`` beside this file, the list of names that are junk in every archive;
2. files ``.ramqignore``: in the root of the source, and in local folders anywhere below;
3. ``--exclude`` of the job;
4. ``--include`` of the job: if there is any, only keys that match one of them are listed.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Literal

from pathspec.patterns.gitignore import GitIgnorePatternError
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from storage.errors import UsageError
from storage.objects.tar_names import is_tar, split_member
from storage.texts import is_storable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Kind = Literal["folder", "s3", "tar"]

REASONS: dict[str, str] = {
    "default": "known junk, from the default list",
    "sidecar": "a sidecar file",
    "film": "a film",
    "pattern": "left out by --include or --exclude",
    "no_tar": "not a tar file, or below a folder with the name of one",
    "ramqignore": "left out by a file .ramqignore, or such a file",
}
"""Why a key is left out, with words for people."""

FILE_NAME = ".ramqignore"

MAX_FILE_BYTES = 1024 * 1024
MAX_PATTERNS = 1_000
"""Patterns of a job. A longer list belongs into a file."""
MAX_PATTERN = 1_000
"""Characters of a pattern."""
MAX_FILE_PATTERNS = 10_000
"""Lines of a file ``.ramqignore``. So many take about a second to read."""
MAX_DEPTHS = 3
"""How often ``**`` may stand in a pattern. Each multiplies the time by the number of folders in a key."""

_FOLDERS_KEPT = 4_096
"""How many folders' decisions are remembered. Keys come in order, so a few would do."""

_LIST = "ignored_by_default.txt"
_HEADING = re.compile(r"\[(default|sidecar|film)(?: (folder|s3|tar))?\]")
_NAMED_GROUP = re.compile(r"\(\?P<\w+>")


@dataclass(frozen=True, slots=True)
class Selection:
    """Which keys of its source a job lists, as people asked for it.

    Attributes:
        include: only keys that match one of these patterns; empty: all.
        exclude: patterns of keys that are left out.
        has_defaults: whether the default list applies.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    has_defaults: bool = True

    def check(self) -> None:
        """Raise ``UsageError`` if a pattern is none, or if there are too many."""
        for option, patterns in (("include", self.include), ("exclude", self.exclude)):
            if len(patterns) > MAX_PATTERNS:
                raise UsageError(f"more than {MAX_PATTERNS:,} patterns: put them into a file {FILE_NAME}")
            for pattern in patterns:
                _rule(pattern, "pattern", f"--{option}", is_typed=True)


EVERYTHING = Selection(has_defaults=False)
"""Nothing is left out, unless a file ``.ramqignore`` says so."""


def default_list() -> str:
    """Return the text of the list of names that are left out of every archive."""
    return files("storage.objects").joinpath(_LIST).read_text(encoding="utf-8")


# Patterns ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Rule:
    """One pattern. ``expression`` is searched in a name (``is_name``), or in the path below the folder of the list."""

    expression: re.Pattern[str]
    reason: str
    takes_back: bool
    only_folders: bool
    is_name: bool

    def matches(self, path: str, name: str, *, is_folder: bool) -> bool:
        if self.only_folders and not is_folder:
            return False
        found = self.expression.search(name if self.is_name else path)
        # The library also matches what lies below a matching folder, and marks that by a group. Here the folder itself
        # was asked about before: only then does what takes a folder back not take back everything in it.
        return found is not None and found.lastindex is None


def _rule(pattern: str, reason: str, where: str, *, is_typed: bool = False) -> _Rule | None:
    """Return the rule of a line; None for a comment or an empty line.

    Args:
        pattern: the line.
        reason: of keys that it leaves out.
        where: what to say of its place in an error.
        is_typed: whether it stands alone: then it is a pattern even if it begins with ``#``, as ``#recycle`` does.

    Raises:
        UsageError: it is no pattern.
    """
    text = unicodedata.normalize("NFC", pattern)
    if is_typed and text.startswith("#"):
        text = f"\\{text}"
    if not text.endswith("\\ "):
        text = text.rstrip()
    if not is_typed and (not text or text.startswith("#")):
        return None
    refused = UsageError(f"{where}: {pattern[:80]!r} is not a pattern as in .gitignore")
    if len(text) > MAX_PATTERN or "\n" in text or not is_storable(text) or text in {"", "/", "!", "!/"}:
        raise refused
    only_folders = text.endswith("/")
    bare = text.removesuffix("/")
    try:
        compiled = GitIgnoreSpecPattern(bare)
    except (GitIgnorePatternError, re.error):
        raise refused from None
    if compiled.regex is None or compiled.include is None:  # such as a range that ends before it begins
        raise refused
    if bare.count("**") > MAX_DEPTHS:
        raise UsageError(f"{where}: {pattern[:80]!r} has more than {MAX_DEPTHS} times **: write fewer")
    is_name = "/" not in bare.removeprefix("!")
    expression = re.compile(_without_going_back(compiled.regex.pattern))
    return _Rule(expression, reason, not compiled.include, only_folders, is_name)


_ANY, _TOKEN = "[^/]*", re.compile(r"\[\^/\]\*|\[(?:\\.|[^\]\\])+\]|\\.|.", re.DOTALL)


def _without_going_back(expression: str) -> str:
    """Return an expression of the library that takes time in proportion to a name, however many ``*`` it has.

    What stands between two ``*`` may be taken where it is found first: if the rest does not match behind that, it
    matches nowhere. So nothing but the last ``*`` of a name is tried at several places.
    """
    tokens, made, at = _TOKEN.findall(expression), [], 0
    while at < len(tokens):
        end = at + 1
        if tokens[at] == _ANY:
            while end < len(tokens) and tokens[end] != _ANY and tokens[end] not in set("()?/|+*^$."):
                end += 1
            if end < len(tokens) and tokens[end] == _ANY:
                made.append(f"(?>{_ANY}?{''.join(tokens[at + 1 : end])})")
                at = end
                continue
            end = at + 1
        made += tokens[at:end]
        at = end
    return "".join(made)


class Rules:
    """The patterns of one list, in its order.

    Args:
        rules: the patterns.
        base: the part of keys that they do not see: empty, or the folder of their file with a slash at its end.
        ignores_case: whether capital and small letters are the same. The patterns are small then.
    """

    def __init__(self, rules: Iterable[_Rule], base: str = "", *, ignores_case: bool = False) -> None:
        self.rules = tuple(rules)
        self._base = len(base)
        self._ignores_case = ignores_case
        # Nearly every key matches nothing. One expression finds that out in the time of a few.
        self._names = _union(rule for rule in self.rules if rule.is_name)
        self._paths = _union(rule for rule in self.rules if not rule.is_name)

    def verdict(self, path: str, name: str, *, is_folder: bool) -> _Rule | None:
        """Return the last rule that matches a key, or a folder without the slash at its end. None: no rule does."""
        if self._ignores_case:
            path, name = path.lower(), name.lower()
        path = path[self._base :]
        if not self._names.search(name) and not self._paths.search(path):
            return None
        return next((rule for rule in reversed(self.rules) if rule.matches(path, name, is_folder=is_folder)), None)


def _union(rules: Iterable[_Rule]) -> re.Pattern[str]:
    parts = [f"(?:{_NAMED_GROUP.sub('(?:', rule.expression.pattern)})" for rule in rules]
    return re.compile("|".join(parts) or r"(?!)")


@cache
def _defaults(kind: Kind) -> Rules:
    rules, reason, applies = [], "default", True
    for line in default_list().splitlines():
        if heading := _HEADING.fullmatch(line):
            reason, applies = heading[1], heading[2] in {None, kind}
        elif applies and (rule := _rule(line.lower(), reason, _LIST)):
            rules.append(rule)
    return Rules(rules, ignores_case=True)


# One listing -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Folder:
    """What was decided about a folder: why it is left out, whether ``include`` names it, and the rules that apply."""

    reason: str | None
    is_included: bool
    rules: tuple[Rules, ...]


class Ignoring:
    """Decides about the keys of one listing. Not thread-safe.

    Args:
        selection: what the job was asked for.
        kind: ``folder``, ``s3`` or ``tar``, for the default list. With ``tar``, a tar file is a folder of its members.
        prefix: the listed part of the archive; what its name is does not matter, since a person named it.
        root: the prefix of the archive itself: files ``.ramqignore`` count from here on.
    """

    def __init__(self, selection: Selection, kind: Kind, prefix: str = "", root: str = "") -> None:
        self._prefix = prefix.strip("/")
        self._root = root.strip("/")
        self._in_tars = kind == "tar"
        base = f"{self._prefix}/" if self._prefix else ""
        self._first = (_defaults(kind),) if selection.has_defaults else ()
        self._exclude = _typed(selection.exclude, base)
        self._include = _typed(selection.include, base)
        self._files: dict[str, Rules] = {}
        self._folders: dict[str, _Folder] = {}

    def above(self) -> list[str]:
        """Return the folders from the archive's root down to the listed part, each empty or with a slash at its end."""
        folder = f"{self._root}/" if self._root else ""
        found = [folder]
        for name in self._prefix.removeprefix(self._root).strip("/").split("/"):
            if name:
                folder += f"{name}/"
                found.append(folder)
        return found

    def add_file(self, folder: str, content: bytes, where: str) -> None:
        """Add the patterns of a file ``.ramqignore``.

        Args:
            folder: its folder: empty, or with a slash at its end.
            content: the file.
            where: its address, for errors.

        Raises:
            UsageError: it is too large or not text, or a line is no pattern.
        """
        if len(content) > MAX_FILE_BYTES:
            raise UsageError(f"{where} is larger than {MAX_FILE_BYTES // 1024:,} KiB")
        try:
            lines = content.decode("utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise UsageError(f"{where} is not text in UTF-8") from None
        if len(lines) > MAX_FILE_PATTERNS:
            raise UsageError(f"{where} has more than {MAX_FILE_PATTERNS:,} lines: leave out whole folders instead")
        rules = [_rule(line, "ramqignore", f"{where}, line {number}") for number, line in enumerate(lines, 1)]
        self._files[_plain(folder)] = Rules([rule for rule in rules if rule], _plain(folder))
        self._folders.clear()

    def reason(self, key: str) -> str | None:
        """Return why a key is left out, one of ``REASONS``; None: it is listed. A slash at its end makes it a folder.

        A folder is left out if a pattern says so. Then everything in it is, too.
        """
        if self._in_tars and is_tar(key) and split_member(key) is None:
            key = f"{key}/"
        plain, own = _plain(key), _plain(self._prefix)
        if plain.rstrip("/") == own or (own and not plain.startswith(f"{own}/")):
            return None
        if plain.endswith("/"):
            return self._about(plain).reason
        folder, _, name = plain.rpartition("/")
        above = self._about(f"{folder}/" if folder else "")
        if above.reason is not None:
            return above.reason
        if name == FILE_NAME:
            return "ramqignore"  # it is no picture, and was read
        rule = self._verdict(above.rules, plain, name, is_folder=False)
        if rule is None and self._include is not None and not self._is_included(plain, name, above, is_folder=False):
            return "pattern"
        return rule.reason if rule else None

    def _about(self, folder: str) -> _Folder:
        """Return what is decided about a folder: empty, or with a slash at its end."""
        known = self._folders.get(folder)
        if known is None:
            if len(self._folders) >= _FOLDERS_KEPT:
                self._folders.clear()
            known = self._folders[folder] = self._decide(folder)
        return known

    def _decide(self, folder: str) -> _Folder:
        path = folder.removesuffix("/")
        own = (rules,) if (rules := self._files.get(folder)) else ()
        if not folder:
            return _Folder(None, False, (*self._first, *own))
        upper, _, name = path.rpartition("/")
        above = self._about(f"{upper}/" if upper else "")
        given = _plain(self._prefix)
        if above.reason is not None:
            return above
        if path == given or given.startswith(f"{path}/"):  # a person named it
            return _Folder(None, False, (*above.rules, *own))
        rule = self._verdict(above.rules, path, name, is_folder=True)
        is_included = self._include is not None and self._is_included(path, name, above, is_folder=True)
        return _Folder(rule.reason if rule else None, is_included, (*above.rules, *own))

    def _verdict(self, layers: Sequence[Rules], path: str, name: str, *, is_folder: bool) -> _Rule | None:
        """Return the rule that leaves a key out; None: it is not left out."""
        for rules in reversed([*layers, *([self._exclude] if self._exclude else [])]):
            rule = rules.verdict(path, name, is_folder=is_folder)
            if rule is not None:
                return None if rule.takes_back else rule
        return None

    def _is_included(self, path: str, name: str, above: _Folder, *, is_folder: bool) -> bool:
        assert self._include is not None
        rule = self._include.verdict(path, name, is_folder=is_folder)
        return above.is_included if rule is None else not rule.takes_back


def _typed(patterns: Sequence[str], base: str) -> Rules | None:
    rules = [rule for pattern in patterns if (rule := _rule(pattern, "pattern", "", is_typed=True))]
    return Rules(rules, _plain(base)) if rules else None


def _plain(key: str) -> str:
    """Return a key as patterns see it: composed letters, and no line end, which a pattern's signs do not match."""
    if key.isascii():
        return key.replace("\n", "\v") if "\n" in key else key
    return unicodedata.normalize("NFC", key).replace("\n", "\v")
