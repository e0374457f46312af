"""A picture of 100 million pixels reaches the networks at the size that they use, and takes the memory of that."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from PIL import Image

from ram_core.localization import LocatingTransform, load_locator
from ram_core.transforms import Sides
from tests.tiny_locators import write_models
from workers.pipeline.decoders import Decoders

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="the memory of a process is read from /proc")

WIDTH, HEIGHT = 12_000, 8_400
MAX_PIXELS = 178_956_970
PUBLISHED = LocatingTransform((Sides(800, 1333), Sides(1024, 1024)))


@pytest.fixture(scope="module")
def body() -> bytes:
    """A JPEG whose left half is red and whose right half is blue: flat pictures are made and packed quickly."""
    image = Image.new("RGB", (WIDTH, HEIGHT), (200, 30, 30))
    image.paste((30, 30, 200), (WIDTH // 2, 0, WIDTH, HEIGHT))
    packed = io.BytesIO()
    image.save(packed, "JPEG", quality=80)
    return packed.getvalue()


@pytest.fixture
def pool() -> Iterator[Decoders]:
    pool = Decoders(1, MAX_PIXELS)
    yield pool
    pool.close()


def test_it_is_decoded_small_and_no_process_holds_it_whole(body: bytes, pool: Decoders) -> None:
    before = set(psutil.Process().children())  # other tests of this process may have left some
    decoded = pool.decode(body, PUBLISHED)
    [child] = set(psutil.Process().children()) - before
    status = Path(f"/proc/{child.pid}/status").read_text(encoding="ascii")
    [peak] = [int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")]
    assert peak < WIDTH * HEIGHT * 3  # at an eighth of the scale it takes 5 MB, beside Python and Pillow
    assert (decoded.width, decoded.height) == (WIDTH, HEIGHT)
    # 800 of the shorter side for the detector are more than 1,024 of the longer one for the segmenter.
    assert decoded.pixels.shape == (800, 1142, 3)
    assert decoded.pixels[400, 100].tolist() == pytest.approx([200, 30, 30], abs=6)
    assert decoded.pixels[400, 1000].tolist() == pytest.approx([30, 30, 200], abs=6)


def test_it_is_located_like_any_other(body: bytes, pool: Decoders, tmp_path: Path) -> None:
    models = write_models(tmp_path, "grounding-dino-tiny", "sam-vit-base")
    locator = load_locator("grounding-dino-tiny", "sam-vit-base", models_dir=models)
    decoded = pool.decode(body, locator.preprocessing)
    assert decoded.pixels.shape == (96, 137, 3)
    [found] = locator.locate([decoded.pixels], [["dog"]])
    assert found.regions
    assert all((region.mask.height, region.mask.width) == (96, 137) for region in found.regions if region.mask)
