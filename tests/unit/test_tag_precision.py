"""Number formats of recognition: what a CPU gets, and tags in 16 bits that are those of float32."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import torch

from ram_core import load_model, tag_precision
from ram_core.errors import DeviceError, ModelError
from ram_core.modeling import certified
from ram_core.modeling.certified import CertifiedRunner, LogitError
from ram_core.modeling.ram import Tagged
from ram_core.modeling.tiny import write_tiny_models
from ram_core.tag_precision import choose_for_tags as choose
from ram_core.tag_precision import cpu_flags
from storage.tables import PRECISIONS
from workers.pipeline import infer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ram_core.vocabulary import TagVocabulary

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """Pretend that this CPU has some instructions, and is so much faster in bfloat16."""

    def pretend(line: str, faster: float) -> None:
        info = tmp_path / "cpuinfo"
        info.write_text(f"processor : 0\n{line}\n", encoding="utf-8")
        monkeypatch.setattr(tag_precision, "CPU_INFO", info)
        monkeypatch.setattr(tag_precision.platform, "system", lambda: "Linux")
        monkeypatch.setattr(tag_precision, "speedup", lambda: faster)
        tag_precision._on_this_cpu.cache_clear()

    yield pretend
    tag_precision._on_this_cpu.cache_clear()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for model in ("ram", "ram_plus", "tag2text"):
        write_tiny_models(model, folder)
    return folder


@pytest.mark.parametrize(
    ("line", "faster", "name", "why"),
    [
        ("flags : sse2 avx512_bf16", 2.1, "certified", "bfloat16 (avx512_bf16) is 2.1 x as fast here"),
        ("flags : avx512_bf16 amx_bf16", 6.0, "certified", "bfloat16 (amx_bf16) is 6.0 x as fast here"),
        ("Features : asimd bf16", 1.9, "certified", "bfloat16 (bf16) is 1.9 x as fast here"),
        ("flags : sse2 avx512_bf16", 1.2, "float32", "bfloat16 (avx512_bf16) is only 1.2 x as fast here"),
        ("flags : sse2 avx2", 9.0, "float32", "this CPU does not compute in bfloat16"),
        ("model : none", 9.0, "float32", "this CPU does not compute in bfloat16"),
    ],
)
def test_a_cpu_gets_what_it_has_and_is_faster_in(cpu: Any, line: str, faster: float, name: str, why: str) -> None:
    cpu(line, faster)
    chosen = choose("auto", CPU, model="ram_plus")
    assert (chosen.name, chosen.why) == (name, why)
    assert chosen.dtype == torch.float32


def test_nothing_is_known_of_the_instructions_of_other_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tag_precision.platform, "system", lambda: "Darwin")
    assert not cpu_flags()


def test_the_speed_of_bfloat16_is_a_median(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 0.0
    took = iter([9.0, 0.1, *[3.0, 1.0] * 7, 0.1, 9.0])  # the first and the last round are disturbed
    starts = iter([True, False] * 18)

    def now() -> float:
        nonlocal clock
        clock += 0.0 if next(starts) else next(took)
        return clock

    monkeypatch.setattr(tag_precision.time, "perf_counter", now)
    assert tag_precision.speedup() == pytest.approx(3.0)


def test_other_models_and_devices_keep_their_format(cpu: Any) -> None:
    cpu("flags : amx_bf16", 6.0)
    assert choose("auto", CPU, model="lite").name == "float32"
    assert choose("certified", CPU, model="lite").name == "float32"
    assert choose("auto", GPU, model="lite").name == choose("auto", GPU, model="ram_plus@birds").name == "float16"
    assert choose("bfloat16", CPU, model="ram").dtype == torch.bfloat16


def test_a_bad_format_is_refused_with_what_to_do() -> None:
    with pytest.raises(DeviceError, match="'int8' is not a number format; use auto, float32, bfloat16, float16 or"):
        choose("int8", CPU, model="ram")
    with pytest.raises(DeviceError, match="float16 is not available on the CPU; use auto, bfloat16 or float32 there"):
        choose("float16", CPU, model="ram")
    with pytest.raises(DeviceError, match="certified is for CPUs; use auto"):
        choose("certified", GPU, model="ram")


def test_records_can_name_every_format() -> None:
    assert set(PRECISIONS) == {*tag_precision.FORMATS, tag_precision.CERTIFIED}


def test_a_model_has_one_format(folder: Path) -> None:
    with pytest.raises(DeviceError, match="by dtype or by precision, not by both"):
        load_model("ram", models_dir=folder, dtype=torch.float32, precision="float32")
    with pytest.raises(ModelError, match="a compiled model has one number format"):
        load_model("ram", models_dir=folder, precision="certified", compiled=True)


def pictures(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (count, 384, 384, 3), dtype=np.uint8)


def tags_of(model: Any, pixels: Any) -> list[list[int]]:
    vocabulary = model.vocabulary
    return [
        one.tag_ids[vocabulary.assigned(one.scores, one.tag_ids)].tolist()
        for start in range(0, len(pixels), 8)
        for one in model.predict(pixels[start : start + 8])
    ]


def sorted_near(exact: Any, rounded: Any, pixels: Any) -> TagVocabulary:
    """Return the tags with thresholds between the scores in both formats, so that rounding changes tags."""
    scores = [model.runner(model._normalised(pixels)).logits.sigmoid().numpy() for model in (exact, rounded)]
    at = np.arange(scores[0].shape[1]) % len(pixels)  # of each tag, the picture whose score its threshold is at
    between = np.mean([each[at, np.arange(len(at))] for each in scores], axis=0)
    return replace(exact.vocabulary, thresholds=between.astype(np.float32))


@pytest.mark.parametrize("name", ["ram", "ram_plus"])
def test_certified_tags_are_those_of_float32(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certified, "EVERY", 4)
    monkeypatch.setattr(certified, "NEAREST", 48)
    exact, rounded, ours = (
        cast("Any", load_model(name, models_dir=folder, precision=each))
        for each in ("float32", "bfloat16", "certified")
    )
    assert tuple(each.runner.precision for each in (exact, rounded, ours)) == ("float32", "bfloat16", "certified")
    assert ours.spec == exact.spec == rounded.spec  # workers of different machines share a job
    pixels = pictures(6)
    vocabulary = sorted_near(exact, rounded, pixels)
    exact, rounded, ours = (model.with_vocabulary(vocabulary) for model in (exact, rounded, ours))
    wanted = tags_of(exact, pixels)
    assert tags_of(rounded, pixels) != wanted
    assert tags_of(ours, pixels) == wanted
    assert ours.runner.computed_again > 0
    assert 0 < ours.runner.margins[1] < 1


def test_what_needs_more_than_certified_tags_is_exact(folder: Path) -> None:
    exact: Any = load_model("tag2text", models_dir=folder)
    ours: Any = load_model("tag2text", models_dir=folder, precision="certified")
    pixels = pictures(1)
    assert ours.predict(pixels, caption=True)[0].caption == exact.predict(pixels, caption=True)[0].caption
    plus: Any = load_model("ram_plus", models_dir=folder, precision="certified")
    again = load_model("ram_plus", models_dir=folder)
    assert plus.exactly().runner.precision == "float32"
    assert np.array_equal(plus.exactly().predict(pixels)[0].scores, again.predict(pixels)[0].scores)
    kept = plus.predict(pixels, features="tokens")[0].features[None]
    assert np.array_equal(plus.retag(kept)[0].scores, cast("Any", again).retag(kept)[0].scores)


class Counting(CertifiedRunner[Any]):
    """A runner whose logits are given, in place of pixels: of float32, plus an error of the decoder and the encoder.

    Args:
        error: of the encoder, root mean square; that of the decoder is twice as large.
        seconds: what an image takes in bfloat16, in the encoder, and in the decoder of float32.
    """

    def __init__(self, error: float, seconds: tuple[float, float, float] = (1.0, 2.0, 1.0)) -> None:
        self.device = CPU
        self.random = torch.Generator().manual_seed(0)
        self.error = error
        self.seconds = seconds
        self.clock = 0.0
        self._rounded: Any = True
        self._forget()

    def noise(self, like: torch.Tensor) -> torch.Tensor:
        return self.error * torch.randn(like.shape, generator=self.random)

    def __call__(self, pixels: torch.Tensor, limits: torch.Tensor | None = None) -> Tagged:
        del limits
        return Tagged(pixels.clone(), pixels.clone())

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        self.clock += self.seconds[1]
        return pixels

    def decode(self, tokens: torch.Tensor) -> Tagged:
        self.clock += self.seconds[2]
        return Tagged(tokens.clone(), tokens.clone())

    def _now(self) -> float:
        return self.clock

    def _tagged_in_16_bits(self, pixels: torch.Tensor) -> Tagged:
        self.clock += self.seconds[0]
        tokens = pixels + self.noise(pixels[:, :1])  # of the encoder: the same for all tags
        return Tagged(tokens + 2 * self.noise(pixels), tokens)

    def _decoded(self, tokens: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
        return tokens.gather(1, near)


def others(tagged: torch.Tensor, logits: torch.Tensor, limits: torch.Tensor) -> int:
    """Return how many images have other tags."""
    return int(((tagged > limits) != (logits > limits)).any(dim=1).sum())


def thousand() -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits of images, and the limits."""
    return 2 * torch.randn(1000, 500, generator=torch.Generator().manual_seed(1)), torch.full((500,), 5.0)


# In the error of full-size networks; above it; and after images that have none, such as blank scans.
@pytest.mark.parametrize(("error", "alike", "wrong"), [(0.02, 0, 1), (0.02, 16, 1), (0.02, 400, 1), (0.04, 16, 5)])
def test_a_thousand_images_have_the_tags_of_float32(error: float, alike: int, wrong: int) -> None:
    logits, limits = thousand()
    ours, rounded = Counting(error), Counting(error)
    found = []
    for each in (logits[:16], *logits[16:].split(32)):
        ours.error = 0.0 if ours._images < alike else error
        found.append(ours._tag(each, limits).logits)
    assert others(rounded._tagged_in_16_bits(logits).logits, logits, limits) > 25
    assert others(torch.cat(found), logits, limits) <= wrong
    assert ours.precision == "certified"
    assert (ours.audited, ours._certified) == (32, 968)
    assert 0.1 < ours.computed_again < 0.75
    assert ours.margins[0] == pytest.approx(6 * error * ((1000 - alike) / 1000) ** 0.5, rel=0.3)


def test_margins_have_a_floor() -> None:
    ours = Counting(0.0)
    logits, limits = thousand()
    ours._tag(logits, limits)
    least = (3 * certified.LEAST_DECODER_ERROR, 3 * certified.LEAST_ENCODER_ERROR)
    assert ours.margins == pytest.approx((least[0] * (1 + 2000**-0.5), least[1] * (1 + 1 / 8)))


def test_audits_are_spread_over_batches_of_any_size() -> None:
    for size in (1, 7, 100):
        ours, (logits, limits) = Counting(0.02), thousand()
        for each in logits[:200].split(size):
            ours._tag(each, limits)
        assert 6 <= ours.audited <= 7, "image 0, one of 32 to 63, … of 192 to 223"


def test_audits_meet_every_kind_of_picture_of_an_archive_in_which_kinds_take_turns() -> None:
    for kinds in (2, 8, 32, 64):
        ours = Counting(0.0)
        audits = torch.cat([ours._chosen(10) for _ in range(4_000)]).nonzero()[:, 0]
        assert len(audits) == pytest.approx(40_000 / 32, abs=2)
        assert len({int(each) % kinds for each in audits}) == kinds


def test_an_audit_that_finds_other_tags_says_so_and_has_those_of_float32(caplog: pytest.LogCaptureFixture) -> None:
    logits, limits = torch.tensor([[0.06, 5.0]]), torch.zeros(2)
    ours = Counting(0.0)
    ours.noise = lambda like: torch.full(like.shape, -0.05)  # type: ignore[method-assign]
    ours._decoded = lambda tokens, near: (tokens - 0.2).gather(1, near)  # type: ignore[method-assign]
    found = ours._tag(logits, limits)
    assert torch.equal(found.logits, logits)
    assert (ours.audited, ours.missed) == (1, 1)
    assert "bfloat16 would have given other tags to 1 of 1 images that were computed in both formats" in caplog.text


def test_images_that_all_have_to_be_computed_again_are_computed_in_float32_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logits = torch.randn(600, 500, generator=torch.Generator().manual_seed(1))
    ours, limits = Counting(0.02, seconds=(1.5, 2.0, 1.0)), torch.zeros(500)
    formats = []
    for each in logits.split(32):
        formats.append(ours.precision)
        assert torch.equal(ours._tag(each, limits).logits, each)
    assert formats == ["certified"] * 16 + ["float32"] * 3, "the batch of the last audit is what it began as"
    assert "100 % of images have a score too near to its threshold for bfloat16, which takes 0.50 of the time" in (
        caplog.text
    )
    for each in logits[:512].split(32):
        ours._tag(each, torch.full((500,), 50.0))
    assert ours.precision == "certified", "other images may come later"


def test_a_disturbed_moment_does_not_decide() -> None:
    logits, limits = thousand()
    ours = Counting(0.02)
    for number, each in enumerate(logits.split(32)):
        ours.seconds = (60.0, 2.0, 1.0) if number in {0, 5, 11} else (1.0, 2.0, 1.0)
        ours._tag(each, limits)
        assert ours.precision == "certified"


def test_an_error_is_the_root_mean_square_over_images() -> None:
    error = LogitError(0.01)
    assert error.margin == pytest.approx(0.03 * (1 + 2**-0.5))
    error.add(torch.tensor([[0.1, -0.1], [float("nan"), 0.0], [0.0, 0.0]]))
    assert error.margin == pytest.approx(0.3 / 2**0.5 * 1.5)


def test_a_batch_is_recorded_in_the_format_that_it_began_in() -> None:
    model = SimpleNamespace(precision="certified", captions=lambda *_: [None])

    def submit(*_: object) -> Any:
        model.precision = "float32"  # from the next batch on
        return SimpleNamespace(is_done=lambda: True, result=lambda: ["a prediction"])

    model.submit = submit
    shard = SimpleNamespace(features="none", captioner="none")
    work = SimpleNamespace(kept=None, pixels=np.zeros((8, 8, 3)), lease=SimpleNamespace(shard=shard), precision=None)
    infer.recognise(cast("Any", model), [cast("Any", work)]).finish()
    assert (work.precision, model.precision) == ("certified", "float32")
