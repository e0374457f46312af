"""The published files of towers.

They were not downloaded to write this. Seen on GitHub in November 2026:

==============================  ================================================================================
siglip2-base                    revision: six projects that agree; weights: two that agree; tokenizer.json: one
dinov2-base                     revision: ten projects that agree; no hashes
clip-vit-base-patch32-laion2b   nothing; the size is computed from the network's
==============================  ================================================================================

A wrong hash cannot do harm: ``pull`` refuses the file. Where none is known, the first pull records it.
"""

from __future__ import annotations

from ram_core.checkpoints.locators import Published

TOWERS = (
    Published(
        "siglip2-base",
        "SigLIP 2, ViT-B/16: vectors that answer to texts in many languages (arXiv:2502.14786)",
        "google/siglip2-base-patch16-224",
        "75de2d55ec2d0b4efc50b3e9ad70dba96a7b2fa2",
        (
            ("config.json", 250, None, False),
            (
                "model.safetensors",
                1_500_800_904,
                "612923381c76ec5a9bed335d1c48827e3f2e506ac31b044b63b2031fadee6a0b",
                True,
            ),
            ("preprocessor_config.json", 394, None, False),
            (
                "tokenizer.json",
                34_363_039,
                "cb9140fae3ac5122c972d37adf83e1248471a38147ad76f8215c8872c6fd8322",
                True,
            ),
            ("tokenizer_config.json", 46_000, None, False),
            ("special_tokens_map.json", 636, None, False),
        ),
    ),
    Published(
        "clip-vit-base-patch32-laion2b",
        "OpenCLIP, ViT-B/32, trained on LAION-2B: vectors that answer to texts (arXiv:2212.07143)",
        "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        "main",
        (
            ("config.json", 4_300, None, False),
            ("model.safetensors", 605_000_000, None, False),
            ("preprocessor_config.json", 400, None, False),
            ("tokenizer.json", 2_220_000, None, False),
            ("tokenizer_config.json", 900, None, False),
            ("special_tokens_map.json", 400, None, False),
            ("vocab.json", 862_000, None, False),
            ("merges.txt", 525_000, None, False),
        ),
    ),
    Published(
        "dinov2-base",
        "DINOv2, ViT-B/14: how pictures look (arXiv:2304.07193)",
        "facebook/dinov2-base",
        "f9e44c814b77203eaa57a6bdbbd535f21ede1415",
        (
            ("config.json", 550, None, False),
            ("model.safetensors", 346_345_912, None, False),
            ("preprocessor_config.json", 436, None, False),
        ),
    ),
)
