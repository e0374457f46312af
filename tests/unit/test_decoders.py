"""Pictures that kill, hang or starve the process that decodes them cost nobody else anything."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest
from PIL import Image

from ram_core.transforms import SquashTransform
from storage.errors import FatalError
from tests import cameras, poison, profiles
from tests.services import marked_decoder as marks
from tests.services.marked_decoder import marked
from workers.pipeline import decoders
from workers.pipeline.decode import ThumbnailTransform, decode, guard_pillow
from workers.pipeline.decoders import Decoders
from workers.pipeline.retry import (
    DecoderCrashedError,
    DecoderMemoryError,
    DecoderTimeoutError,
    TooManyPixelsError,
    verdict,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_PIXELS = 50_000_000
SMALL = SquashTransform(64)
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _guarded() -> Iterator[None]:
    before = Image.MAX_IMAGE_PIXELS
    guard_pillow(MAX_PIXELS)
    yield
    Image.MAX_IMAGE_PIXELS = before


def children() -> list[psutil.Process]:
    return [
        child for child in psutil.Process().children() if any("decoder" in argument for argument in child.cmdline())
    ]


def picture(seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def pool() -> Iterator[Decoders]:
    pool = Decoders(1, MAX_PIXELS)
    yield pool
    pool.close()


@pytest.fixture
def fragile(monkeypatch: pytest.MonkeyPatch) -> Iterator[Decoders]:
    """Two decoders that marked pictures are fatal to, with two seconds for each picture."""
    monkeypatch.setattr(decoders, "CHILD", marks.__name__)
    pool = Decoders(2, MAX_PIXELS, seconds=2)
    yield pool
    pool.close()


def test_a_child_decodes_as_this_process_would(pool: Decoders) -> None:
    for odd in poison.odd():
        ours, theirs = decode(odd.body, SMALL, MAX_PIXELS), pool.decode(memoryview(odd.body), SMALL)
        assert np.array_equal(ours.pixels, theirs.pixels), odd.name
        assert (ours.width, ours.height) == (theirs.width, theirs.height)


def test_a_child_reads_new_formats_raw_files_and_profiles_within_its_limits(pool: Decoders) -> None:
    bodies = {name: make(6) for name, make in cameras.FILES.items()}
    bodies |= {"HEIC": poison.heic(poison.detailed(800, 600)), "JPEG XL": poison.jpeg_xl(poison.detailed(800, 600))}
    bodies["profile"] = poison.encoded(poison.scene(), "JPEG", icc_profile=profiles.exchanged())
    for name, body in bodies.items():
        ours, theirs = decode(body, SMALL, MAX_PIXELS), pool.decode(memoryview(body), SMALL)
        assert np.array_equal(ours.pixels, theirs.pixels), name
        assert (ours.width, ours.height) == (theirs.width, theirs.height)
    assert len(children()) == 1


def test_bad_files_are_refused_with_the_same_class_and_words_as_in_this_process(pool: Decoders) -> None:
    for bad in poison.bad():
        if not bad.body:
            continue
        with pytest.raises(Exception) as ours:  # noqa: PT011  (whatever it is, the other must be the same)
            decode(bad.body, SMALL, MAX_PIXELS)
        with pytest.raises(type(ours.value)) as theirs:
            pool.decode(bad.body, SMALL)
        assert str(theirs.value) == str(ours.value)
    assert len(children()) == 1


@pytest.mark.parametrize(
    ("mark", "kind", "code"),
    [
        (marks.SEGFAULT, DecoderCrashedError, "decoder_crash"),
        (marks.NONSENSE, DecoderCrashedError, "decoder_crash"),
        (marks.GREED, DecoderMemoryError, "decoder_memory"),
        (marks.KILLED, DecoderMemoryError, "decoder_memory"),
        (marks.HANG, DecoderTimeoutError, "decoder_timeout"),
        (marks.SPIN, DecoderTimeoutError, "decoder_timeout"),
    ],
)
def test_a_picture_that_is_fatal_to_its_decoder_is_named_and_the_next_one_is_decoded(
    mark: bytes, kind: type[Exception], code: str, fragile: Decoders
) -> None:
    with pytest.raises(kind) as caught:
        fragile.decode(marked(picture(), mark), SMALL)
    assert verdict(caught.value).code == code
    assert "\n" not in str(caught.value)
    assert fragile.decode(picture(), SMALL).width == 50


def test_neighbours_go_on_while_one_picture_hangs(fragile: Decoders) -> None:
    fragile.decode(picture(), SMALL)
    with ThreadPoolExecutor(2) as threads:
        hanging = threads.submit(fragile.decode, marked(picture(), marks.HANG), SMALL)
        for seed in range(20):
            assert fragile.decode(picture(seed), SMALL).height == 40
        assert not hanging.done()
        with pytest.raises(DecoderTimeoutError):
            hanging.result()


def test_a_death_by_chance_costs_no_picture(fragile: Decoders, tmp_path: Path) -> None:
    (tmp_path / "once").touch()
    assert fragile.decode(marked(picture(), marks.CHANCE, str(tmp_path / "once")), SMALL).width == 50
    assert not (tmp_path / "once").exists()


def test_a_child_that_was_killed_while_it_was_idle_is_replaced(pool: Decoders) -> None:
    pool.decode(picture(), SMALL)
    [first] = children()
    first.kill()
    first.wait()
    assert pool.decode(picture(), SMALL).width == 50
    assert [child.pid for child in children()] != [first.pid]


def test_the_limit_of_pixels_holds_in_the_child_too(pool: Decoders) -> None:
    with pytest.raises(TooManyPixelsError):
        pool.decode(poison.encoded(poison.scene(10_000, 5_001), "PNG"), SMALL)


def test_the_largest_picture_that_is_allowed_fits_into_a_childs_memory(pool: Decoders) -> None:
    body = poison.encoded(Image.new("RGB", (10_000, 5_000), (20, 30, 40)).quantize(4), "PNG", transparency=1)
    assert pool.decode(body, SMALL).height == 5_000


def test_a_child_has_neither_our_environment_nor_our_files(
    pool: Decoders, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-tell")
    with (tmp_path / "secret").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        others = children()
        pool.decode(picture(), SMALL)
        [child] = [each for each in children() if each not in others]
        assert "AWS_SECRET_ACCESS_KEY" not in child.environ()
        assert child.open_files() == []


def test_a_child_loads_no_model_library_and_no_client_of_a_service() -> None:
    heavy = ("torch", "transformers", "sqlalchemy", "psycopg", "boto3", "celery", "redis")
    code = f"import sys, workers.pipeline.decoder_child; print(*(name for name in {heavy!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_child_that_cannot_start_stops_the_worker_instead_of_failing_the_image(
    pool: Decoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "CHILD", "workers.no_such_module")
    with pytest.raises(FatalError, match="did not start"):
        pool.decode(picture(), SMALL)


def test_closing_ends_the_children_and_they_start_again_when_needed(pool: Decoders) -> None:
    pool.decode(picture(), SMALL)
    pool.close()
    assert children() == []
    assert pool.decode(picture(), SMALL).width == 50


_PARENT = """
import sys, time
from ram_core.transforms import SquashTransform
from tests.services.marked_decoder import use_marked_decoder
from workers.pipeline.decoders import Decoders
use_marked_decoder()
pool = Decoders(1, 10**7, seconds=4)
body = sys.stdin.buffer.read()
pool.decode(body, SquashTransform(64))
print("ready", flush=True)
pool.decode(body + b"--mark-hang", SquashTransform(64))
"""


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_children_go_when_their_parent_does_even_from_a_picture_that_hangs(signal_number: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    with parent:
        assert parent.stdin
        assert parent.stdout
        parent.stdin.write(picture())
        parent.stdin.close()
        assert parent.stdout.readline() == b"ready\n"
        left = psutil.Process(parent.pid).children()
        assert len(left) == 1
        time.sleep(0.5)  # the fatal picture is on its way
        parent.send_signal(signal_number)
    _, alive = psutil.wait_procs(left, timeout=10)
    assert alive == []


def test_a_picture_is_shrunk_for_people_in_its_own_shape(pool: Decoders) -> None:
    body = poison.encoded(poison.scene(900, 300), "JPEG")
    small = pool.decode(body, ThumbnailTransform(160))
    assert small.pixels.shape == (53, 160, 3)
    assert (small.width, small.height) == (900, 300)
    assert pool.decode(picture(), ThumbnailTransform(160)).pixels.shape == (40, 50, 3)
