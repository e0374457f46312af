"""Models in the layout of transformers: a folder with ``config.json``, weights and a tokenizer. Nothing is downloaded.

No code in a file is run: only safetensors are read.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from transformers import AutoTokenizer

from ram_core.checkpoints.published import catalogue
from ram_core.errors import CheckpointError, UnknownModelError
from ram_core.quiet import quiet
from ram_core.registry import resolve_device

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WEIGHTS = "model.safetensors"


def folder_of(name: str, models_dir: Path | None, known: Sequence[str]) -> Path:
    """Return the folder of a model: one of the catalogue, or any other in the folder of models."""
    is_name = name not in {"", ".", ".."} and Path(name).name == name  # and not a path to somewhere else
    folder = Path(models_dir) / name if models_dir is not None and is_name else None
    if folder is not None and folder.is_dir():
        return folder
    if name not in known:
        raise UnknownModelError(f"unknown model {name!r}; known models: {', '.join(known)}")
    where = "no folder of models is set" if models_dir is None else f"it is not in {models_dir}"
    raise CheckpointError(f"{name} is not here ({where}); run `ramq models pull {name}`")


def read_json(path: Path) -> dict[str, Any]:
    """Return an object of JSON. Raises ``CheckpointError``."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing; {_put_back(path.parent.name)}") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); {_put_back(path.parent.name)}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is damaged: it is no object of JSON; {_put_back(path.parent.name)}")
    return content


def kind_of(folder: Path, kinds: Mapping[str, str], role: str) -> str:
    """Return the ``model_type`` of a folder. Raises ``CheckpointError`` if it is none of ``kinds``."""
    kind = str(read_json(folder / "config.json").get("model_type"))
    if kind not in kinds:
        raise CheckpointError(f"{folder} has a model of type {kind!r}, not a {role} ({', '.join(kinds)})")
    return kind


def load_network(folder: Path, name: str, device: str | torch.device) -> Any:
    """Load a network of transformers, in float32, in evaluation mode and without gradients.

    Args:
        folder: the model's.
        name: class of transformers.
        device: where to run.

    Raises:
        CheckpointError: the weights are missing or damaged, or some of them are not there.
        DeviceError: the device is not available.
    """
    if not (folder / WEIGHTS).is_file():
        raise CheckpointError(f"{folder / WEIGHTS} is missing; {_put_back(folder.name)}")
    place = resolve_device(device)
    try:
        with quiet():
            network, report = getattr(transformers, name).from_pretrained(
                str(folder), local_files_only=True, use_safetensors=True, output_loading_info=True, dtype=torch.float32
            )
    except Exception as error:  # transformers raises any error of its readers
        raise CheckpointError(
            f"{folder} cannot be read as {name} ({_line(error)}); {_put_back(folder.name)}"
        ) from error
    if lacking := sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}):
        raise CheckpointError(
            f"{folder / WEIGHTS} lacks {len(lacking)} weights that {name} needs, for example {lacking[0]}; "
            f"{_put_back(folder.name)}"
        )
    return network.eval().requires_grad_(requires_grad=False).to(place)


def load_tokenizer(folder: Path) -> Any:
    """Load a tokenizer. Raises ``CheckpointError`` if its files are missing or damaged."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        tokens = tokenizer("a photo of a dog", add_special_tokens=False)["input_ids"]
    except Exception as error:  # likewise
        raise CheckpointError(
            f"{folder} has no readable tokenizer ({_line(error)}); {_put_back(folder.name)}"
        ) from error
    # Without its files, transformers makes one that knows no word, and says nothing.
    if len(set(tokens)) < len("dog"):
        raise CheckpointError(f"{folder} has no tokenizer that knows words; {_put_back(folder.name)}")
    return tokenizer


def digest_of(path: Path) -> str:
    """Return the SHA-256 (hex) of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _put_back(name: str) -> str:
    """Return what to do about files that are missing or damaged."""
    if any(name == entry.name for entry in catalogue()):
        return f"run `ramq models pull {name}`"
    return f"copy the files of {name} there again"  # no model that can be pulled


def _line(error: BaseException) -> str:
    """Return the first sentence of an error. What ends with a colon goes on in the next lines."""
    told = ""
    for line in filter(None, map(str.strip, str(error).split("\n"))):
        told += f" {line}"
        if not line.endswith((":", ",", ";")) and not line.startswith("("):
            break
    return told.strip() or type(error).__name__
