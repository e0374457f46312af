"""Use the models alone, without queue, database or server: `python examples/library.py FOLDER [CACHE]`.

An editor can run the cells (`# %%`) one by one. `lite` needs no checkpoint files. For another model, pull its
checkpoint (`ramq models pull ram_plus`), write `load_model("ram_plus", models_dir=…)`, and name the same model and
folder in `load_text_encoder`. Everything else stays the same.
"""
# ruff: noqa: INP001, T201  (a script that prints)

# %% Load some images
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from ram_core import load_model, load_text_encoder

folder = Path(sys.argv[1])
cache = Path(sys.argv[2]) if len(sys.argv) > 2 else None
paths = sorted(path for path in folder.iterdir() if path.suffix in {".jpg", ".png"})
pictures = [Image.open(path).convert("RGB") for path in paths]

# %% Tags: each has a stable id, a name, and a score between 0 and 1
model = load_model("lite", cache_dir=cache)
recognised = model.recognize(pictures)
for path, found in zip(paths, recognised, strict=True):
    print(f"{path.name}: {', '.join(f'{tag.name} {tag.score:.2f}' for tag in found.tags) or 'no tag is sure enough'}")

# %% Search by text: the vectors of images and texts are in one space
vectors = np.stack([found.vector for found in recognised])  # (N, D), each of length 1
text = load_text_encoder("lite").encode(["a cat"])[0]
nearest = np.argsort(-vectors @ text)
print("nearest to `a cat`:", ", ".join(paths[i].name for i in nearest[:3]))

# %% Similar images: the same, with an image's vector
others = np.argsort(-vectors @ vectors[nearest[0]])
print(f"most like {paths[others[0]].name}: {paths[others[1]].name}")
