"""The catalogue of ``ramq models``: the files of each model, where they are published, and their hashes.

Sizes and hashes of RAM and RAM++ are those published by several independent projects. If no hash is published, the
first pull records the hash that it saw.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from ram_core.checkpoints.locators import LOCATORS
from ram_core.checkpoints.towers import TOWERS
from ram_core.errors import CheckpointError, UnknownModelError

# Fixed revisions, if there are any.
_HUB = "https://huggingface.co"
_RAM_PLUS_REVISION = "6afd703f04b23e1c18d4c7d9882c4f5f954848f8"
# This revision has no safetensors. Projects that pin it publish the hashes of its files.
_CLIP_REVISION = "57c216476eefef5ab752ec549e440a49ae4ae5f3"
_LISTS = (
    "https://raw.githubusercontent.com/xinyu1205/recognize-anything/7cb804a8609e9f4b1a50b7f31436d2df40bb9481/ram/data"
)

# Tolerance of an unpublished file size, relative to the size that its contents suggest. An HTML page or the pointer of
# an LFS file is thousands of times smaller.
_PLAUSIBLE = 4


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a model.

    Attributes:
        name: file name under ``<models_dir>/<model>/``.
        url: where it is published.
        size_bytes: its size.
        sha256: its hash (hex); None if none is published.
        exact_size: False if ``size_bytes`` is an estimate.
    """

    name: str
    url: str
    size_bytes: int
    sha256: str | None = None
    exact_size: bool = True

    @property
    def most_bytes(self) -> int:
        """The maximum size of this file."""
        return self.size_bytes if self.exact_size else self.size_bytes * _PLAUSIBLE

    def fits(self, size_bytes: int) -> bool:
        """Return whether a file of this size can be this file."""
        if self.exact_size:
            return size_bytes == self.size_bytes
        return self.size_bytes / _PLAUSIBLE <= size_bytes <= self.most_bytes


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A model and its files.

    Attributes:
        name: the name to pull it by.
        summary: one line for people.
        files: the files to download; empty for a model that is installed with ramq.
        companions: names of other entries that text search, or custom tags, also need.
    """

    name: str
    summary: str
    files: tuple[RemoteFile, ...]
    companions: tuple[str, ...] = ()

    def file(self, name: str) -> RemoteFile:
        """Return one file by name. Raises ``CheckpointError`` for a name that is not in the entry."""
        for each in self.files:
            if each.name == name:
                return each
        known = ", ".join(each.name for each in self.files) or "none, it is installed with ramq"
        raise CheckpointError(f"{self.name} has no file {name!r}; its files are: {known}")


def _hub(repository: str, name: str, revision: str = "main") -> str:
    return f"{_HUB}/{repository}/resolve/{revision}/{name}"


def _clip(name: str, size_bytes: int, sha256: str, *, exact_size: bool = False) -> RemoteFile:
    url = _hub("openai/clip-vit-base-patch16", name, _CLIP_REVISION)
    return RemoteFile(name, url, size_bytes, sha256, exact_size=exact_size)


_RAM_LISTS = (
    RemoteFile(
        "ram_tag_list.txt",
        f"{_LISTS}/ram_tag_list.txt",
        41_904,
        "5d96d2f7225527480ad773aaac76b6e5c08a18adf6eae9ca7d2ab923d5e7bd8b",
    ),
    RemoteFile(
        "ram_tag_list_chinese.txt",
        f"{_LISTS}/ram_tag_list_chinese.txt",
        44_181,
        "c912657a0f30be7b2f5df6ccffa17e1d84561d0bea508528e38b6d0d711bcfbe",
    ),
    RemoteFile(
        "ram_tag_list_threshold.txt",
        f"{_LISTS}/ram_tag_list_threshold.txt",
        22_016,
        "b6f81d0de1bc7f9c251af512c413eae976c77dbfbadf700d4e3d90510f4c6447",
    ),
)

_READERS = "https://www.modelscope.cn/models/RapidAI/RapidOCR/resolve/v3.10.0/onnx/PP-OCRv5/rec"

# PP-OCRv5's networks that recognise lines of other scripts, as ONNX. The package rapidocr 3.10 publishes the addresses
# and hashes (its default_models.yaml). Sizes are not published: about that of the network for Latin script.
_SCRIPTS = (
    ("arabic", "arabic", "c1192e632d0baa9146ae5b756a0e635e3dc63c1733737ebfd1629e87144e9295"),
    ("cyrillic", "cyrillic", "90f761b4bfcce0c8c561c0cb5c887b0971d3ec01c32164bdf7374a35b0982711"),
    ("devanagari", "devanagari", "d6f0a906580e3fa6b324a318718f1f31f268b6ea8ef985f91c2012a37f52c91e"),
    ("greek", "el", "b4368bccd557123c702b7549fee6cd1e94b581337d1c9b65310f109131542b7f"),
    ("korean", "korean", "cd6e2ea50f6943ca7271eb8c56a877a5a90720b7047fe9c41a2e541a25773c9b"),
    ("tamil", "ta", "a42448808b7dea87597336f12438935f40353f1949e8360acd9e06b4da21bfe1"),
    ("telugu", "te", "a3690451b50028a09a3316a1274f7c05728151ea3f8fd392696397a7fefcbd92"),
    ("thai", "th", "de541dd83161c241ff426f7ecfd602a0ba77d686cf3ab9a6c255ea82fd08006e"),
)


def _reader(script: str, code: str, sha256: str) -> CatalogueEntry:
    name = f"{code}_PP-OCRv5_rec_mobile.onnx"
    file = RemoteFile(name, f"{_READERS}/{name}", 9_000_000, sha256, exact_size=False)
    return CatalogueEntry(f"ppocr_v5_{script}", f"reads text in {script.capitalize()} script (PP-OCRv5)", (file,))


_ENTRIES: tuple[CatalogueEntry, ...] = (
    CatalogueEntry("lite", "small ImageNet model; installed with ramq, nothing to pull", ()),
    CatalogueEntry(
        "ram",
        "Recognize Anything, Swin-L, 4,585 tags (arXiv:2306.03514)",
        (
            RemoteFile(
                "ram_swin_large_14m.pth",
                _hub("xinyu1205/recognize_anything_model", "ram_swin_large_14m.pth"),
                5_625_600_000,
                "15c729c793af28b9d107c69f85836a1356d76ea830d4714699fb62e55fcc08ed",
                exact_size=False,
            ),
            *_RAM_LISTS,
        ),
        ("clip-vit-base-patch16",),
    ),
    CatalogueEntry(
        "ram_plus",
        "Recognize Anything Plus, Swin-L, 4,585 tags with 51 descriptions each (arXiv:2310.15200)",
        (
            RemoteFile(
                "ram_plus_swin_large_14m.pth",
                _hub("xinyu1205/recognize-anything-plus-model", "ram_plus_swin_large_14m.pth", _RAM_PLUS_REVISION),
                3_010_210_801,
                "497c178836ba66698ca226c7895317e6e800034be986452dbd2593298d50e87d",
            ),
            *_RAM_LISTS,
        ),
        ("clip-vit-base-patch16",),
    ),
    CatalogueEntry(
        "tag2text",
        "Tag2Text, Swin-B, 3,429 tags and captions (arXiv:2303.05657)",
        (
            RemoteFile(
                "tag2text_swin_14m.pth",
                _hub("spaces/xinyu1205/Recognize_Anything-Tag2Text", "tag2text_swin_14m.pth"),
                4_480_000_000,
                exact_size=False,
            ),
            RemoteFile(
                "tag2text_ori_tag_list.txt",
                f"{_LISTS}/tag2text_ori_tag_list.txt",
                29_062,
                "7d05c7cb88ed46a2aee1434776964f6bdbda0c0f4233c8633e109084382d3a45",
            ),
            RemoteFile(
                "vocab.txt",
                _hub("google-bert/bert-base-uncased", "vocab.txt"),
                231_508,
                "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
            ),
        ),
    ),
    CatalogueEntry(
        "clip-vit-base-patch16",
        "CLIP ViT-B/16: text search and open-set tags with RAM and RAM++, and training (arXiv:2103.00020)",
        (
            _clip("config.json", 4_100, "eaf1c9089a8553c913d27ea66407f8bfc2be9989c80c9f331ddb3d63d4c5e8ad"),
            _clip(
                "pytorch_model.bin",
                598_641_023,
                "ec89c7b09c749a60aae3c9cd910516f24b58214a7df060b48962d14c469cfbf0",
                exact_size=True,
            ),
            _clip("tokenizer.json", 2_220_000, "a83e0809aa4c3af7208b2df632a7a69668c6d48775b3c3fe4e1b1199d1f8b8f4"),
            _clip("tokenizer_config.json", 700, "3f74b6a4d97fee70b3b96921a687fc5e3f2fb583f5f81e7c178c0c22281beade"),
            _clip("special_tokens_map.json", 400, "f8c0d6c39aee3f8431078ef6646567b0aba7f2246e9c54b8b99d55c22b707cbf"),
            _clip("vocab.json", 862_000, "3f0c4f7d2086b61b38487075278ea9ed04edb53a03cbb045b86c27190fa8fb69"),
            _clip("merges.txt", 525_000, "9fd691f7c8039210e0fced15865466c65820d09b63988b0174bfe25de299051a"),
        ),
    ),
    *(_reader(*script) for script in _SCRIPTS),
)


_ENTRIES += tuple(
    CatalogueEntry(
        model.name,
        model.summary,
        tuple(
            RemoteFile(name, _hub(model.repository, name, model.revision), size, sha256, exact_size=is_exact)
            for name, size, sha256, is_exact in model.files
        ),
    )
    for model in (*LOCATORS, *TOWERS)
)


def catalogue() -> tuple[CatalogueEntry, ...]:
    """Return all models in listing order."""
    return _ENTRIES


def entry(name: str) -> CatalogueEntry:
    """Return one model. Raises ``UnknownModelError`` that lists the known names."""
    for each in _ENTRIES:
        if each.name == name:
            return each
    raise UnknownModelError(f"unknown model {name!r}; known models: {', '.join(each.name for each in _ENTRIES)}")


def mirrored(url: str, mirror: str | None) -> str:
    """Return the address of a file on a mirror: the mirror's address followed by the path of the published one.

    Raises:
        CheckpointError: the mirror is not an http or https address.
    """
    if mirror is None:
        return url
    base, path = urlsplit(mirror), urlsplit(url).path
    if base.scheme not in {"http", "https"} or not base.hostname:
        raise CheckpointError(f"mirror {mirror!r} is not a web address; give one like https://mirror.example/models")
    return urlunsplit((base.scheme, base.netloc, base.path.rstrip("/") + path, "", ""))
