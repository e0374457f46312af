"""Make the hierarchy that is part of the package: ``python -m ram_core.hierarchy.ship WORDNET.json``.

The input has WordNet's synsets above and among the classes: ``{"source", "classes": [id, …], "synsets": {id:
{"lemmas", "hypernyms", "gloss"}}}``. WordNet's licence lets it be copied with its notice, ``WORDNET-LICENCE.txt``.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ram_core.hierarchy.upper_tags import OTHER_SENSES, UPPER_TAGS
from ram_core.hierarchy.wordnet import PATH, fold


def hierarchy_of(wordnet: dict[str, Any]) -> dict[str, Any]:
    """Return the content of the shipped file."""
    synsets, classes = wordnet["synsets"], wordnet["classes"]
    below = _classes_below(synsets, classes)
    upper = [_upper_tag(names, told, synsets, below) for names, told in UPPER_TAGS.items()]
    own = {fold(synsets[each]["lemmas"][0]) for each in classes} | {fold(tag["name"]) for tag in upper}
    if clashes := sorted(tag["name"] for tag in upper if fold(tag["name"]) in {fold(n) for n in _names(wordnet)}):
        raise SystemExit(f"these are classes already: {', '.join(clashes)}")
    senses: dict[str, int] = {}
    for synset in synsets.values():
        for lemma in synset["lemmas"]:
            senses[fold(lemma)] = senses.get(fold(lemma), 0) + 1
    chosen = {fold(each) for tag in upper for each in tag["synonyms"]}

    def is_synonym(lemma: str) -> bool:
        return senses[fold(lemma)] == 1 and fold(lemma) not in OTHER_SENSES | own | chosen

    return {
        "source": wordnet["source"],
        "licence": "WORDNET-LICENCE.txt",
        "classes": classes,
        "class_synonyms": [list(filter(is_synonym, synsets[each]["lemmas"][1:])) for each in classes],
        "upper_tags": upper,
        "other_senses": sorted(OTHER_SENSES),
        "synsets": {key: [each["lemmas"], each["hypernyms"]] for key, each in sorted(synsets.items())},
    }


def _names(wordnet: dict[str, Any]) -> list[str]:
    return [wordnet["synsets"][each]["lemmas"][0] for each in wordnet["classes"]]


def _upper_tag(names: str, told: str, synsets: dict[str, Any], below: dict[str, set[int]]) -> dict[str, Any]:
    name, *synonyms = (each.strip() for each in names.split(","))
    parts = told.split()
    taken = [part for part in parts if not part.startswith("-")]
    without = [part[1:] for part in parts if part.startswith("-")]
    classes = set[int]().union(*(below[synset] for synset in taken)).difference(*(below[each] for each in without))
    return {
        "name": name,
        "synonyms": synonyms,
        "description": f"{name}: {synsets[taken[0]]['gloss']}",
        "synsets": taken,
        "without": without,
        "classes": sorted(classes),
    }


def _classes_below(synsets: dict[str, Any], classes: list[str]) -> dict[str, set[int]]:
    below: dict[str, set[int]] = {}
    for place, synset in enumerate(classes):
        ahead = [synset]
        while ahead:
            each = ahead.pop()
            below.setdefault(each, set()).add(place)
            ahead += synsets[each]["hypernyms"] if each in synsets else []
    return below


def main() -> None:
    """Write the file, or list what there is to choose from."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wordnet", type=Path)
    parser.add_argument("--list", action="store_true", help="list the synsets above classes, with the number of these")
    chosen = parser.parse_args()
    wordnet = json.loads(chosen.wordnet.read_text(encoding="utf-8"))
    if chosen.list:
        below = _classes_below(wordnet["synsets"], wordnet["classes"])
        for synset, places in sorted(below.items(), key=lambda each: -len(each[1])):
            if synset not in wordnet["classes"]:
                sys.stdout.write(f"{len(places)} {synset} {'; '.join(wordnet['synsets'][synset]['lemmas'])}\n")
        return
    text = json.dumps(hierarchy_of(wordnet), ensure_ascii=False, separators=(",", ":"))
    PATH.write_text(text.replace('],"n', '],\n"n') + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
