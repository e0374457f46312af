"""The published files of detectors and segmenters.

They were not downloaded to write this. Revisions, sizes and hashes are those that public projects on GitHub pin for
the same files, seen there in November 2026:

======================  ==========================================================
grounding-dino-tiny     every file: one project's list; weights: ten that agree
grounding-dino-base     every file: two projects that agree; weights: ten
owlv2-base              every file: one project's list; weights: eight that agree
sam-vit-base            weights: four projects that agree; config.json: one
sam-vit-huge            weights: one project; the revision: four more
sam2.1-hiera-tiny       every file: four projects that agree
sam2.1-hiera-large      every file: one project; weights: two more
mm-grounding-dino-tiny  only the size of the weights
sam-hq-vit-base         nothing; the size is computed from the network's
======================  ==========================================================

A wrong hash cannot do harm: ``pull`` refuses the file. Where none is known, the first pull records it.
"""

from __future__ import annotations

from typing import NamedTuple

# Name, size in bytes, SHA-256 or None, whether the size is exact.
File = tuple[str, int, str | None, bool]


class Published(NamedTuple):
    """One detector or segmenter.

    Attributes:
        name: the name to pull it by.
        summary: one line for people.
        repository: where it is published, on huggingface.co.
        revision: a commit of it, or a branch where no commit is known.
        files: its files.
    """

    name: str
    summary: str
    repository: str
    revision: str
    files: tuple[File, ...]


def _exact(name: str, size: int, sha256: str | None = None) -> File:
    return (name, size, sha256, True)


def _about(name: str, size: int, sha256: str | None = None) -> File:
    return (name, size, sha256, False)


_GROUNDING_WORDS = (
    _exact("preprocessor_config.json", 457, "8454179ba95e2ad22947835aad7b45862a601fc0055ab88bf1ee70892d3aea60"),
    _exact("special_tokens_map.json", 125, "b6d346be366a7d1d48332dbc9fdf3bf8960b5d879522b7799ddba59e76237ee3"),
    _exact("tokenizer.json", 711_396, "d241a60d5e8f04cc1b2b3e9ef7a4921b27bf526d9f6050ab90f9267a1f9e5c66"),
    _exact("tokenizer_config.json", 1_237, "d40ab645b68211910b9170d22433d43186a6ec8ee6fd10ba170524b25bf4fb56"),
    _exact("vocab.txt", 231_508, "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
)
_SAM2_PREPARATION = _exact(
    "preprocessor_config.json", 683, "6ebf229ee259368ce4a8d4f2fe893a72b053023710853e257253939e601f583d"
)

LOCATORS = (
    Published(
        "grounding-dino-tiny",
        "Grounding DINO, Swin-T: boxes of any tags (arXiv:2303.05499)",
        "IDEA-Research/grounding-dino-tiny",
        "a2bb814dd30d776dcf7e30523b00659f4f141c71",
        (
            _exact("config.json", 1_644, "eec82c5ab66e16df12a9a212e68ac011779927c2536cf9078658e35d85f0c67a"),
            _exact(
                "model.safetensors", 689_359_096, "1a2412ef99bd74bcd3c2a246fa1e48581f8889a1300c9051974741314fc042f3"
            ),
            *_GROUNDING_WORDS,
        ),
    ),
    Published(
        "grounding-dino-base",
        "Grounding DINO, Swin-B: boxes of any tags, the larger one (arXiv:2303.05499)",
        "IDEA-Research/grounding-dino-base",
        "12bdfa3120f3e7ec7b434d90674b3396eccf88eb",
        (
            _exact("config.json", 1_737, "eda416dae6f49419ff831b1c190ec430a060b19aae688dbaf2425a075b650608"),
            _exact(
                "model.safetensors", 933_400_872, "5548f844c928c4b6f411fa8cbcc2bfa8dbbba437cb1d513975519f93c2a9ed21"
            ),
            *_GROUNDING_WORDS,
        ),
    ),
    Published(
        "mm-grounding-dino-tiny",
        "MM-Grounding-DINO, Swin-T: Grounding DINO trained anew on open data (arXiv:2401.02361)",
        "openmmlab-community/mm_grounding_dino_tiny_o365v1_goldg_v3det",
        "main",
        (
            _about("config.json", 2_000),
            _about("model.safetensors", 692_015_412),
            _about("preprocessor_config.json", 500),
            _about("special_tokens_map.json", 125),
            _about("tokenizer.json", 711_396),
            _about("tokenizer_config.json", 1_300),
            _about("vocab.txt", 231_508, "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
        ),
    ),
    Published(
        "owlv2-base",
        "OWLv2, ViT-B/16, ensemble: boxes of any tags in one pass (arXiv:2306.09683)",
        "google/owlv2-base-patch16-ensemble",
        "cfd3195ba4ea9592eec887ded089f4c08eff231d",
        (
            _exact("config.json", 414, "ba9df8c25a4b8461887dd0a93d9252c9cd84697fe8d49a9d8794ce409af9acb2"),
            _exact(
                "model.safetensors", 619_918_824, "e1e130b9e404cf91a75ad45644c1da9d7fa5284085eecc864266a6923efb99e7"
            ),
            _exact("preprocessor_config.json", 425, "cf3e396635b797ee1a464e1b2836e98748f8edac19e89aaa2c93b55ac15b0064"),
            _exact("added_tokens.json", 67, "e5dc0da35d20111e8ff3fdfc03682beca23d5f94ed74331bce81786b2636a24f"),
            _exact("merges.txt", 524_619, "9fd691f7c8039210e0fced15865466c65820d09b63988b0174bfe25de299051a"),
            _exact("special_tokens_map.json", 121, "d6e2b9cf664efbad2d22998b8d3da986abcbeed3e0825ad33605c9401f9cf73e"),
            _exact("tokenizer_config.json", 1_100, "b55cda6198e152ded427c8a9b3faf1cccf27a7fa080697a62f6ff143f511f44f"),
            _exact("vocab.json", 1_059_962, "e089ad92ba36837a0d31433e555c8f45fe601ab5c221d4f607ded32d9f7a4349"),
        ),
    ),
    Published(
        "sam-vit-base",
        "SAM, ViT-B: masks of boxes (arXiv:2304.02643)",
        "facebook/sam-vit-base",
        "70c1a07f894ebb5b307fd9eaaee97b9dfc16068f",
        (
            _exact("config.json", 6_566, "5ebd0d8643b486f3a716bf17c2a15531eb818b2b96ff0c6c5dcc88fa015161af"),
            _exact(
                "model.safetensors", 374_979_480, "892c410e496344e527255ccdcb2cb7244a609acb5389c7c4fdba1288f861c579"
            ),
            _exact("preprocessor_config.json", 466),
        ),
    ),
    Published(
        "sam-vit-huge",
        "SAM, ViT-H: masks of boxes, the largest one (arXiv:2304.02643)",
        "facebook/sam-vit-huge",
        "87aecf0df4ce6b30cd7de76e87673c49644bdf67",
        (
            _about("config.json", 6_600),
            _about(
                "model.safetensors", 2_564_400_000, "edfb0462392541fca9af44ff039bfb32dbd0c939997f3abb77a26e23af7afd7c"
            ),
            _about("preprocessor_config.json", 466),
        ),
    ),
    Published(
        "sam2.1-hiera-tiny",
        "SAM 2.1, Hiera-T: masks of boxes, the smallest one (arXiv:2408.00714)",
        "facebook/sam2.1-hiera-tiny",
        "de431c4043854a71d8101e17995dfe596bf101a5",
        (
            _exact("config.json", 5_695, "860aff9751b139d83a4ad7df1e5535416fded533e0ead02625edbefcb9953cce"),
            _exact(
                "model.safetensors", 155_908_064, "48c14467e5cf9e51870511feb72c89688e82dd74523142c0538b663e193ac2a7"
            ),
            _SAM2_PREPARATION,
        ),
    ),
    Published(
        "sam2.1-hiera-large",
        "SAM 2.1, Hiera-L: masks of boxes, the largest one (arXiv:2408.00714)",
        "facebook/sam2.1-hiera-large",
        "665f8e2ad61cf5f53d65644ff27c8ee525124610",
        (
            _exact("config.json", 5_705, "00446988cf4d617118d2d347eabe2c46aebed744628facdd540508be30b69ec3"),
            _exact(
                "model.safetensors", 897_897_416, "dc407dce21301fd94abb395c5099b4f2c455fdc8a8f261ac3d0ea6d4cd197230"
            ),
            _SAM2_PREPARATION,
        ),
    ),
    Published(
        "sam-hq-vit-base",
        "SAM-HQ, ViT-B: masks of boxes, trained for fine edges (arXiv:2306.01567)",
        "syscv-community/sam-hq-vit-base",
        "main",
        (
            _about("config.json", 6_600),
            _about("model.safetensors", 379_300_000),
            _about("preprocessor_config.json", 500),
        ),
    ),
)
