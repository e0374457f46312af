"""Which of some tags the labelled pictures have, as folders and file names say. All tags of a picture are known."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.labelled import folder_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from benchmarks.labelled import Labelled

LEAST = 10
"""Pictures that a tag needs."""

_OF_FOLDERS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("animals/mammals", "animals/marsupials"), ("animal", "mammal")),
    "animals/birds": ("animal", "bird"),
    **dict.fromkeys(("animals/fish", "fishes"), ("animal", "fish")),
    "animals/insects": ("animal", "insect"),
    **dict.fromkeys(("animals/amphibians", "animals/lizards", "animals/shellfish"), ("animal",)),
    "food/fruit": ("food", "fruit"),
    "food/vegetables": ("food", "vegetable"),
    **dict.fromkeys(("food/nuts", "food"), ("food",)),
    "plants/flowers": ("plant", "flower"),
    **dict.fromkeys(("plants/trees", "plants"), ("plant",)),
    **{f"seasonal/{feast}": (feast,) for feast in ("christmas", "halloween", "easter")},
    "clothes": ("clothing",),
    "clothes/hats": ("clothing", "hat"),
    **dict.fromkeys(("household/tools", "tools"), ("tool",)),
    "hobbies/music": ("musical instrument",),
    **dict.fromkeys(("space/planets", "solar_system"), ("planet",)),
    **dict.fromkeys(("monuments", "india", "france", "usa", "germany", "wonders", "egypt"), ("monument",)),
    **{
        f"vehicles/{kind}": ("vehicle",)
        for kind in ("auto", "emergency", "flight", "ship", "construction", "cycle", "masstransit", "race")
    },
    **dict.fromkeys(("vehicles", "military/vehicles"), ("vehicle",)),
}
_MIXED = ("erase", "animals")  # folders of animals of all kinds
_OF_TEXTS = {
    "windmill": ("wind turbine",),
    "solar": ("solar panel",),
    "dam": ("dam",),
    **dict.fromkeys(
        (
            *("alpaca", "calf", "camels", "cheetah", "dolphin", "flying fox", "gibbon", "giraffe", "goat", "gorilla"),
            *("horse", "kitten", "long nosed monkey", "macaque", "meerkats", "nubian ibex", "pika", "red panda"),
            *("rhinoceros", "squirrel", "cat", "cow", "dog", "pig", "sheep", "bison", "hedgehog", "jaguar", "kangaroo"),
            *("koala", "lemur", "moose", "narwhal", "panda", "polar bear"),
        ),
        ("animal", "mammal"),
    ),
    **dict.fromkeys(
        (
            *("gosling", "heron", "kingfisher", "northern harrier", "penguin", "spoonbills", "swans", "toucan"),
            *("chicken", "duck", "owl", "scarlet macaw"),
        ),
        ("animal", "bird"),
    ),
    **dict.fromkeys(("bee", "butterfly", "caterpillar"), ("animal", "insect")),
}


@dataclass(frozen=True, slots=True, eq=False)
class Kinds:
    """Pictures and their tags.

    Attributes:
        paths: N pictures.
        folders: the folder of each.
        tags: T names; ``LEAST`` pictures at least have each.
        has: (N, T) True if the picture has the tag.
    """

    paths: list[Path]
    folders: list[str]
    tags: list[str]
    has: NDArray[np.bool_]


def kinds_of(sets: Sequence[Labelled]) -> Kinds:
    """Return the pictures that have one of the tags."""
    named = [(path, _tags_of(path, text)) for each in sets for path, text in zip(each.paths, each.texts, strict=True)]
    counted = Counter(tag for _, tags in named for tag in tags)
    tags = sorted(tag for tag, count in counted.items() if count >= LEAST)
    kept = [(path, own) for path, own in named if set(own) & set(tags)]
    has = np.array([[tag in own for tag in tags] for _, own in kept])
    return Kinds([path for path, _ in kept], [folder_of(path) for path, _ in kept], tags, has)


def _tags_of(path: Path, text: str) -> tuple[str, ...]:
    folder = folder_of(path)
    if folder in _MIXED:
        return _OF_TEXTS.get(text, ("animal",))
    if folder == "renewable":
        return _OF_TEXTS.get(text, ())
    return _OF_FOLDERS.get(folder, ())
