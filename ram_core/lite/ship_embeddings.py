"""Compute the embeddings that are part of the package: ``python -m ram_core.lite.ship_embeddings``."""

from __future__ import annotations

import numpy as np

from ram_core.lite.imagenet import imagenet_vocabulary
from ram_core.lite.shipped_embeddings import PATH, digest_of
from ram_core.lite.text_encoder import load_minilm


def main() -> None:
    """Embed the names and definitions of the tags of ``lite``."""
    tags = imagenet_vocabulary()
    encoder = load_minilm()
    texts = [*tags.names, *(each for several in tags.descriptions or () for each in several)]
    distinct = list(dict.fromkeys(texts))
    np.savez_compressed(
        PATH,
        encoder=np.frombuffer(bytes.fromhex(encoder.sha256), dtype=np.uint8),
        digests=np.stack([np.frombuffer(digest_of(text), dtype=np.uint8) for text in distinct]),
        vectors=encoder.encode(distinct),
    )


if __name__ == "__main__":
    main()
