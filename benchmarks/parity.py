"""How far the models are from the official implementation, case by case, as a table for ``docs/models.md``.

Needs the folder of reference outputs (``RAMQ_SHARED_DIR``), and torch, timm, transformers, numpy, Pillow and pytest.

    python -m benchmarks.parity
    python -m benchmarks.parity --device cuda --formats float32 float16 bfloat16
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.report import RESULTS
from ram_core import TagVocabulary, load_model
from tests.reference import bits, official_file, official_vocabulary, reference

FORMATS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def main() -> None:
    """Compare, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=["float32"])
    parser.add_argument("--output", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for number_format in chosen.formats:
            for kind in ("ram", "ram_plus", "tag2text"):
                found = _compare(kind, Path(folder), chosen.device, FORMATS[number_format])
                rows += [{**row, "format": number_format} for row in found]
    print("| case | format | images | max abs logit difference | tag sets equal | captions equal |")
    print("| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        apart = f"{row['logit_max']:.1e}" if row["logit_max"] is not None else "-"
        facts = (row["case"], row["format"], row["images"], apart, row["tags"] or "-", row["captions"] or "-")
        print(f"| {' | '.join(map(str, facts))} |")
    chosen.output.mkdir(exist_ok=True)
    device = torch.device(chosen.device)
    gpu = torch.cuda.get_device_name(device).replace(" ", "-") if device.type == "cuda" else ""
    name = f"parity-{gpu}.json" if gpu else "parity.json"
    (chosen.output / name).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def _compare(kind: str, folder: Path, device: str, dtype: torch.dtype) -> list[dict[str, Any]]:
    case = reference(kind)
    path = folder / f"{kind}.pth"
    torch.save({"model": case.weights}, path)
    if kind == "tag2text":
        vocabulary = TagVocabulary.from_files(official_file("tag2text_ori_tag_list.txt"))
        thresholds, packed = case.arrays["threshold"], case.arrays["tags_on_raw"]
    else:
        vocabulary = official_vocabulary(case.arrays["logits"].shape[1])
        thresholds, packed = vocabulary.thresholds, case.arrays["tags_on"]
    model: Any = load_model(kind, checkpoint=path, vocabulary=vocabulary, device=device, dtype=dtype)
    logits = model.tag_logits(case.pixels).float().cpu()
    on = logits.sigmoid().numpy() > thresholds
    rows = [_row(f"{kind}, closed set", logits, case.arrays["logits"], (on == bits(packed, len(vocabulary))).all(1))]
    if kind == "tag2text":
        rows.append(_captions(model, case))
        return rows
    embeddings = case.arrays["openset_embed"].reshape((20, 51, 512) if kind == "ram_plus" else (20, 512))
    names = TagVocabulary.from_names("open", [f"cat{i}" for i in range(20)])
    opened = model.with_embeddings(names, embeddings).tag_logits(case.pixels).float().cpu()
    assigned = names.assigned(opened.sigmoid().numpy())
    equal = [
        " | ".join(names.names[i] for i in np.flatnonzero(row)) == tags
        for row, tags in zip(assigned, case.facts["openset_tags"], strict=True)
    ]
    return [*rows, _row(f"{kind}, open set", opened, case.arrays["openset_logits"], np.array(equal))]


def _captions(model: Any, case: Any) -> dict[str, Any]:
    """Caption every case; token ids and words must both be the official ones."""
    right = 0
    for each in case.facts["cases"]:
        given = each["kwargs"]["tag_input"]
        arguments = {"max_length": 30, **each["kwargs"]}
        del arguments["tag_input"]
        tags = None if given is None else [given[0].split(" | ")]
        image = case.pixels[each["image"], None]
        right += model.caption_ids(image, tags, **arguments) == [each["ids"]] and model.caption(
            image, tags, **arguments
        ) == [each["caption"]]
    count = len(case.facts["cases"])
    return {
        "case": "tag2text, seven ways of searching",
        "images": len(case.pixels),
        "logit_max": None,
        "tags": None,
        "captions": f"{right} of {count}",
    }


def _row(case: str, ours: torch.Tensor, theirs: Any, equal: Any) -> dict[str, Any]:
    return {
        "case": case,
        "images": len(ours),
        "logit_max": float((ours - torch.from_numpy(theirs)).abs().max()),
        "tags": f"{int(equal.sum())} of {len(equal)}",
        "captions": None,
    }


if __name__ == "__main__":
    main()
