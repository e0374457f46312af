"""What must be true of people's words after files were moved about, told from the files alone.

A picture is its bytes. The model remembers of which picture each word was said, and which pictures the folder held when
a job looked. It knows no keys of images that are gone, no rules about pairs and no order of events.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from tests.same_picture import picture

if TYPE_CHECKING:
    from pathlib import Path

NAMES = tuple(f"{folder}{number}.png" for folder in ("", "x/") for number in range(4))


@dataclass
class Folder:
    """A folder of pictures, and which picture is under each name.

    Attributes:
        root: the folder.
        held: the picture under each name there is.
        clock: of the last change, in nanoseconds: each one is later than the one before.
    """

    root: Path
    held: dict[str, int] = field(default_factory=dict)
    clock: int = 1_700_000_000_000_000_000
    new: int = 0

    def act(self, kind: str, one: str, other: str) -> None:
        """Do one thing to the files; nothing, if there is no such file."""
        if kind == "add":
            self._write(one, self._next())
        elif one not in self.held:
            return
        else:
            getattr(self, f"_{kind}")(one, other)

    def _next(self) -> int:
        self.new += 1
        return self.new

    def _write(self, name: str, number: int) -> None:
        picture(self.root / name, number)
        self._stamp(name)
        self.held[name] = number

    def _stamp(self, name: str) -> None:
        self.clock += 1_000_000_000
        os.utime(self.root / name, ns=(self.clock, self.clock))

    def _overwrite(self, one: str, _: str) -> None:
        self._write(one, self._next())

    def _touch(self, one: str, _: str) -> None:
        self._stamp(one)

    def _delete(self, one: str, _: str) -> None:
        (self.root / one).unlink()
        del self.held[one]

    def _copy(self, one: str, other: str) -> None:
        if one != other:
            (self.root / other).parent.mkdir(exist_ok=True)
            shutil.copy(self.root / one, self.root / other)
            self._stamp(other)
            self.held[other] = self.held[one]

    def _move(self, one: str, other: str) -> None:
        if one != other:
            (self.root / other).parent.mkdir(exist_ok=True)
            (self.root / one).rename(self.root / other)
            self.held[other] = self.held.pop(one)

    def _swap(self, one: str, other: str) -> None:
        if other in self.held and one != other:
            (self.root / one).rename(self.root / "aside")
            (self.root / other).rename(self.root / one)
            (self.root / "aside").rename(self.root / other)
            self.held[one], self.held[other] = self.held[other], self.held[one]

    def _renumber(self, one: str, _: str) -> None:
        """Give each file of a folder the name of the one before it, round in a circle."""
        folder = one.rpartition("/")[0]
        names = sorted(name for name in self.held if name.rpartition("/")[0] == folder)
        if len(names) > 1:
            before = {name: self.held[name] for name in names}
            (self.root / names[0]).rename(self.root / "aside")
            for name, following in pairwise(names):
                (self.root / following).rename(self.root / name)
                self.held[name] = before[following]
            (self.root / "aside").rename(self.root / names[-1])
            self.held[names[-1]] = before[names[0]]


@dataclass(frozen=True)
class Seen:
    """What there is after a job.

    Attributes:
        there: the image under each key whose original is there.
        words: the images that have each word.
    """

    there: dict[str, int]
    words: dict[str, list[int]]


@dataclass
class Model:
    """Of which picture each word was said, and what the last job found.

    Attributes:
        said: the picture of each word.
        numbers: the number of each picture that was in the folder exactly once.
    """

    said: dict[str, int] = field(default_factory=dict)
    numbers: dict[int, int] = field(default_factory=dict)

    def check(self, folder: Folder, seen: Seen) -> None:
        """Compare with what ramq says after a job."""
        assert set(seen.there) == set(folder.held)
        pictures = {image_id: folder.held[key] for key, image_id in seen.there.items()}
        assert len(pictures) == len(folder.held), "an image is at two keys"
        for word, number in self.said.items():
            [image_id] = seen.words[word]  # at one image: neither lost nor doubled
            if image_id in pictures:
                assert pictures[image_id] == number, f"{word} stands at another picture"
            else:
                # A picture that is there keeps its words, unless people had spoken of every copy of it separately.
                copies = [each for each, its in pictures.items() if its == number]
                spoken = {each for ids in seen.words.values() for each in ids}
                assert set(copies) <= spoken, f"{word} stands at no picture, though its picture is there"
        often = Counter(folder.held.values())
        now = {number: image_id for image_id, number in pictures.items() if often[number] == 1}
        for number in now.keys() & self.numbers.keys():
            assert now[number] == self.numbers[number], "a picture that was moved has another number"
        self.numbers = now
