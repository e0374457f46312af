"""From texts to tags: captions/s on one core, precision and recall.

* ``parse_captions.jsonl`` has 300 captions of mixed kinds, written and labelled by hand with names of RAM's list before
  the parser saw them. A third is held out: the rules were never changed because of them. Without RAM's list
  (RAMQ_SHARED_DIR/ram) the tags in that file are the vocabulary, without Chinese names.
* Descriptions: each of the 10,200 sentences in RAM++'s file of rare classes is about one of 200 tags, but not each
  names it ("Large size, four legs" is about bovines). Only recall means something there.
* Candidates for tags: captions/s, and the memory of the names that are held, on made-up captions of nine words drawn
  from the labelled ones. They repeat less than real captions, and fill the memory sooner.
* Other ways to find base forms take part if they are installed: simplemma, lemminflect.

Speed is processor time of one core: nothing here waits, and neighbours change wall time only.

    python -m benchmarks.bench_parse
"""

from __future__ import annotations

import importlib
import json
import os
import random
import resource
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.report import begin, options, write
from ram_core.labels import TagParser
from ram_core.labels.candidates import CandidateCounter
from ram_core.labels.lemmas import Form, forms, spelled
from ram_core.vocabulary import TagVocabulary

if TYPE_CHECKING:
    from collections.abc import Callable

CAPTIONS = Path(__file__).parent / "parse_captions.jsonl"
SHARED = Path(os.environ.get("RAMQ_SHARED_DIR", Path(__file__).resolve().parents[2] / "shared")) / "ram"
DESCRIPTIONS = SHARED / "openimages_rare_200_llm_tag_descriptions.json"
REPEATS = 100
ROUNDS = 5
COUNTED = 1_000_000
MOST_HELD = 500_000


def simplemma_forms() -> Callable[[str], list[Form]]:
    """Return base forms by simplemma's table."""
    lemmatize = importlib.import_module("simplemma").lemmatize
    return lambda word: [
        Form(spelled(word), is_verb=False),
        Form(spelled(lemmatize(word, lang="en")), is_verb=word.endswith(("ing", "ed"))),
    ]


def lemminflect_forms() -> Callable[[str], list[Form]]:
    """Return base forms by lemminflect's table and rules."""
    lemmas = importlib.import_module("lemminflect").getAllLemmas
    return lambda word: [
        Form(spelled(word), is_verb=False),
        *(
            Form(spelled(base), is_verb=kind in {"VERB", "AUX"} and not word.endswith("s"))
            for kind, bases in lemmas(word).items()
            for base in bases
        ),
    ]


def quality(parser: TagParser, captions: list[dict[str, Any]]) -> dict[str, Any]:
    """Return precision and recall over distinct tags of each caption."""
    right = extra = missed = 0
    kinds: Counter[str] = Counter()
    for caption in captions:
        found = {tag.name.casefold() for tag in parser.parse(caption["text"])}
        named = {name.casefold() for name in caption["tags"]}
        right += len(found & named)
        extra += len(found - named)
        missed += len(named - found)
        kinds[caption["kind"]] += len(found ^ named)
    return {
        "captions": len(captions),
        "tags": right + missed,
        "precision": round(right / (right + extra), 4),
        "recall": round(right / (right + missed), 4),
        "mistakes_by_kind": dict(kinds),
    }


def described(word_forms: Callable[[str], list[Form]]) -> float:
    """Return the share of the descriptions in which their tag is found."""
    entries = json.loads(DESCRIPTIONS.read_text(encoding="utf-8"))
    names = [next(iter(entry)) for entry in entries]
    parser = TagParser(TagVocabulary.from_names("rare", names), word_forms)
    hits = [
        any(tag.id == tag_id for tag in parser.parse(sentence))
        for tag_id, entry in enumerate(entries)
        for sentence in next(iter(entry.values()))
    ]
    return round(sum(hits) / len(hits), 4)


def speed(parser: TagParser, texts: list[str]) -> int:
    """Return the captions/s of the fastest round."""
    best = float("inf")
    for _ in range(ROUNDS):
        begun = time.process_time()
        for text in texts:
            parser.parse(text)
        best = min(best, time.process_time() - begun)
    return round(len(texts) / best)


def candidates(captions: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the speed of counting names, and the memory that it takes."""
    draw = random.Random(0)
    words = [word for caption in captions for word in caption["text"].split()]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counter = CandidateCounter(MOST_HELD)
    worked = 0.0
    for _ in range(0, COUNTED, 1000):
        batch = [" ".join(draw.choices(words, k=9)) for _ in range(1000)]
        begun = time.process_time()
        for caption in batch:
            counter.add(caption)
        worked += time.process_time() - begun
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {
        "captions": COUNTED,
        "most_held": MOST_HELD,
        "captions_per_s": round(COUNTED / worked),
        "grown_mib": round(grown / 1024),
        "most_missed": max(each.missed for each in counter.candidates()),
    }


def main() -> None:
    """Measure, print and write."""
    parser = options(__doc__)
    chosen = parser.parse_args()
    captions = [json.loads(line) for line in CAPTIONS.read_text(encoding="utf-8").splitlines()]
    if SHARED.is_dir():
        vocabulary = TagVocabulary.official("ram", SHARED)
    else:
        captions = [caption for caption in captions if caption["kind"] != "chinese"]
        names = sorted({name for caption in captions for name in caption["tags"]})
        vocabulary = TagVocabulary.from_names("captions", names)
    texts = [caption["text"] for caption in captions] * REPEATS
    ways: dict[str, Callable[[], Callable[[str], list[Form]]]] = {
        "rules": lambda: forms,
        "simplemma": simplemma_forms,
        "lemminflect": lemminflect_forms,
    }
    report = begin()
    report["vocabulary"] = {"name": vocabulary.name, "tags": len(vocabulary)}
    report["words_per_caption"] = round(sum(len(text.split()) for text in texts) / len(texts), 1)
    report["ways"] = {}
    for name, make in ways.items():
        try:
            word_forms = make()
        except ModuleNotFoundError:
            continue
        begun = time.process_time()
        tags = TagParser(vocabulary, word_forms)
        built = time.process_time() - begun
        report["ways"][name] = {
            "build_s": round(built, 2),
            "all": quality(tags, captions),
            "held_out": quality(tags, [each for each in captions if each["held_out"]]),
            "descriptions_recall": described(word_forms) if DESCRIPTIONS.is_file() else None,
            "captions_per_s": speed(tags, texts),
        }
        print(name, json.dumps(report["ways"][name]))
    report["candidates"] = candidates(captions)
    print("candidates", json.dumps(report["candidates"]))
    write(chosen, "parse", report)


if __name__ == "__main__":
    main()
