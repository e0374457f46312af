"""Text in pictures is read: real weights, on text that is drawn here."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import unicodedata
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFilter

from ram_core.errors import ImageError
from ram_core.reading import Reader, ReaderSpec, ReadingTransform, detection, load_reader, reader, recognition
from ram_core.reading.reader import clean
from tests.lettering import CHINESE, edits, font, pixels, sentence, sheet, spoil
from tests.photographs import photographs
from workers.pipeline.decode import decode

if TYPE_CHECKING:
    from numpy.typing import NDArray

LATIN = [
    "Größe der Straße: 42,50 €",
    "Hello world, this is a test",
    "Łódź, Kraków, São Paulo",
    "Open from nine to five",
]


@pytest.fixture(scope="module")
def model() -> Reader:
    return load_reader()


class Runs:
    """Counts the runs of a session and the pixels that they were given."""

    def __init__(self, session: Any) -> None:
        self.session, self.shapes = session, list[tuple[int, ...]]()

    def run(self, names: Any, given: dict[str, NDArray[np.float32]]) -> Any:
        self.shapes += [each.shape for each in given.values()]
        return self.session.run(names, given)

    def get_inputs(self) -> Any:
        return self.session.get_inputs()


@pytest.fixture
def runs(model: Reader, monkeypatch: pytest.MonkeyPatch) -> dict[str, Runs]:
    counted = {"find": Runs(model._detector._session), "read": Runs(model._recognizer._session)}
    monkeypatch.setattr(model._detector, "_session", counted["find"])
    monkeypatch.setattr(model._recognizer, "_session", counted["read"])
    return counted


def said(model: Reader, picture: Image.Image) -> list[str]:
    return [line.text for line in model.read([pixels(picture)])[0].lines]


def wide_page() -> tuple[Image.Image, list[str]]:
    """Small print on a picture that needs two tiles, with lines that cross their border."""
    rng, picture = np.random.default_rng(0), Image.new("RGB", (2300, 500), "white")
    lines = [sentence(rng, "latin", length) for length in (180, 100, 170, 15, 120)]
    for i, line in enumerate(lines):
        ImageDraw.Draw(picture).text((60, 60 + 75 * i), line, font=font("serif", 20), fill="black")
    return picture, lines


def test_lines_are_read_from_top_to_bottom_with_their_places(model: Reader) -> None:
    picture = sheet(LATIN, size=28)
    lines = model.read([pixels(picture)])[0].lines
    assert [line.text for line in lines] == LATIN
    for i, line in enumerate(lines):
        (left, top), (right, _), (_, bottom), _ = line.polygon
        # The sheet has a margin of two ems, and lines that are 1.9 ems apart.
        assert left * picture.width == pytest.approx(2 * 28, abs=8)
        assert right * picture.width == pytest.approx(2 * 28 + font("sans", 28).getlength(LATIN[i]), abs=8)
        assert top * picture.height < 28 * (1.2 + 1.9 * i + 0.7) < bottom * picture.height
        assert 0.9 < line.confidence <= 1


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_turned_pages_are_read_and_their_lines_say_which_way_they_go(model: Reader, quarters: int) -> None:
    upright = model.read([pixels(sheet(LATIN, size=28))])[0].lines
    turned = model.read([np.ascontiguousarray(np.rot90(pixels(sheet(LATIN, size=28)), quarters))])[0].lines
    assert [line.text for line in turned] == LATIN
    for before, after in zip(upright, turned, strict=True):
        back = np.array(after.polygon)
        for _ in range(quarters):  # a point (x, y) comes from (1 - y, x) of the picture before the quarter turn
            back = np.stack([1 - back[:, 1], back[:, 0]], axis=1)
        assert back == pytest.approx(np.array(before.polygon), abs=0.03)


def test_a_slanted_line_is_read_with_a_slanted_polygon(model: Reader) -> None:
    picture = sheet(["The quick brown fox jumps over"], size=30, angle=12)
    (line,) = model.read([pixels(picture)])[0].lines
    (x0, y0), (x1, y1), *_ = line.polygon
    assert line.text == "The quick brown fox jumps over"
    assert np.degrees(np.arctan2((y0 - y1) * picture.height, (x1 - x0) * picture.width)) == pytest.approx(12, abs=2)


def test_chinese_is_read(model: Reader) -> None:
    text = CHINESE[20:36]
    assert edits("".join(said(model, sheet([text], "chinese", 32))), text) <= 1


def test_columns_are_read_one_after_the_other(model: Reader) -> None:
    picture = Image.new("RGB", (1000, 400), "white")
    draw, face = ImageDraw.Draw(picture), font("serif", 26)
    columns = [["Once upon a time there", "was an archive of one", "hundred million files"]]
    columns += [["Nobody knew what was", "written in the pictures", "until they were read"]]
    draw.text((40, 30), "A heading that stands above both of the columns of this page", font=face, fill="black")
    for i, column in enumerate(columns):
        for j, line in enumerate(column):
            draw.text((40 + 500 * i, 120 + 50 * j + 9 * i), line, font=face, fill="black")
    heading, *rest = said(model, picture)
    assert heading.startswith("A heading that")
    assert rest == columns[0] + columns[1]


def test_long_lines_that_stand_on_their_heads_are_read(model: Reader) -> None:
    """The direction model must see their letters: squeezed into its 192 pixels, it takes such lines for upright."""
    lines = [sentence(np.random.default_rng(seed), "latin", 70) for seed in range(4)]
    upright, turned = (said(model, sheet(lines, "serif", 20).rotate(degrees)) for degrees in (0, 180))
    assert [edits(a, b) <= 2 for a, b in zip(turned, upright, strict=True)] == [True] * 4


def test_the_direction_model_s_errors_cost_no_text(model: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = pixels(sheet(LATIN, size=24))
    before = model.read([picture])
    marked = np.ones(len(LATIN), dtype=bool)
    monkeypatch.setattr(model._recognizer, "_turned", lambda crops: marked[: len(crops)])
    assert model.read([picture]) == before


def test_small_print_is_read_in_tiles_without_doubles_or_halves(model: Reader, runs: dict[str, Runs]) -> None:
    picture, lines = wide_page()
    for turned in (False, True):
        for each in runs.values():
            each.shapes.clear()
        read = said(model, picture.rotate(90, expand=True) if turned else picture)
        widths = [max(shape[2:]) for shape in runs["find"].shapes]
        assert widths.count(1024) == 2, "one look was enough: the page is too small for this test"
        assert len(read) == len(lines)
        wrong = [edits(a.replace(" ", ""), b.replace(" ", "")) / len(b) for a, b in zip(read, lines, strict=True)]
        assert max(wrong) < 0.1


def test_letters_larger_than_a_tile_can_show_are_read(model: Reader, runs: dict[str, Runs]) -> None:
    picture = Image.new("RGB", (2600, 1700), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((150, 300), "MUSEUM", font=font("sans", 560), fill="black")
    draw.text((900, 1400), "open every day from nine to five", font=font("sans", 30), fill="black")
    assert said(model, picture) == ["MUSEUM", "open every day from nine to five"]


def scene() -> Image.Image:
    """A photograph without text, and without the small structures that are taken for some."""
    picture = Image.open(next(path for path in photographs() if path.name == "flower.jpg"))
    return picture.resize((1920, 1280)).filter(ImageFilter.GaussianBlur(8))


def test_a_picture_without_text_is_looked_at_once(model: Reader, runs: dict[str, Runs]) -> None:
    wall = spoil(Image.new("RGB", (1920, 1280), "rosybrown"), noise=8)
    assert said(model, wall) == []
    assert runs["find"].shapes == [(1, 3, 640, 960)]
    assert runs["read"].shapes == []


def test_only_the_surroundings_of_text_are_looked_at_closely(model: Reader, runs: dict[str, Runs]) -> None:
    picture, face = scene(), font("sans", 40)
    ImageDraw.Draw(picture).text(
        (700, 400), "Hotel Europa", font=face, fill="white", stroke_fill="black", stroke_width=2
    )
    assert said(model, picture) == ["Hotel Europa"]
    look, *close = [height * width for _, _, height, width in runs["find"].shapes]
    assert look == 960 * 640
    assert 0 < sum(close) < 0.2 * 1920 * 1280


def test_lines_without_a_letter_or_digit_are_dropped(model: Reader) -> None:
    assert said(model, sheet(["Name", "---------", "Age 42"], size=30)) == ["Name", "Age 42"]


def test_pictures_of_noise_take_bounded_work(
    model: Reader, runs: dict[str, Runs], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "MAX_LINES", 5)
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1600, 3), dtype=np.uint8)
    full = pixels(sheet([*LATIN, *LATIN], size=24))
    for picture in (noise, full):
        for each in runs.values():
            each.shapes.clear()
        reading = model.read([picture])[0]
        assert len(reading.lines) <= 5
        assert sum(shape[0] for shape in runs["read"].shapes) <= 2 * 5  # each line both ways at most
        looked = sum(height * width for _, _, height, width in runs["find"].shapes)
        assert looked <= 2 * picture.shape[0] * picture.shape[1]
    assert reading.is_cut


def test_the_first_lines_are_kept_where_there_are_too_many(model: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = sheet(LATIN, size=28)
    assert not model.read([pixels(picture)])[0].is_cut
    monkeypatch.setattr(reader, "MAX_LINES", 3)
    reading = model.read([pixels(picture)])[0]
    assert ([line.text for line in reading.lines], reading.is_cut) == (LATIN[:3], True)
    # The width at which lines are read is what takes time, so it has a limit too.
    monkeypatch.setattr(reader, "MAX_WIDTH", 2 * 640)
    reading = model.read([pixels(picture)])[0]
    assert ([line.text for line in reading.lines], reading.is_cut) == (LATIN[:2], True)


@pytest.mark.parametrize("shape", [(1, 1), (3, 10_000), (10_000, 3), (1, 400), (33, 31), (700, 2)])
def test_degenerate_pictures_have_no_text(model: Reader, shape: tuple[int, int]) -> None:
    for level in (0, 255):
        (reading,) = model.read([np.full((*shape, 3), level, dtype=np.uint8)])
        assert (reading.lines, reading.is_cut) == ((), False)


@pytest.mark.parametrize(
    "bad",
    [np.zeros((5, 5), np.uint8), np.zeros((5, 5, 4), np.uint8), np.zeros((5, 5, 3)), np.zeros((0, 5, 3), np.uint8)],
)
def test_what_is_no_picture_is_refused(model: Reader, bad: Any) -> None:
    with pytest.raises(ImageError, match="not uint8"):
        model.read([bad])


def test_pictures_of_one_call_do_not_depend_on_each_other(model: Reader) -> None:
    pictures = [
        pixels(sheet(LATIN[:2], size=20)),
        pixels(spoil(sheet(LATIN, size=24), blur=1)),
        np.zeros((9, 9, 3), np.uint8),
    ]
    together = model.read(pictures)
    assert together == [model.read([picture])[0] for picture in pictures]
    assert [len(reading.lines) for reading in together] == [2, 4, 0]


def test_lines_do_not_depend_on_those_in_their_batch(model: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = pixels(sheet([*LATIN, *LATIN], size=24))
    in_batches = model.read([picture])[0]
    monkeypatch.setattr(recognition, "_BATCH_WIDTH", 1)
    one_by_one = model.read([picture])[0]
    assert [line.text for line in in_batches.lines] == [line.text for line in one_by_one.lines]
    pairs = zip(in_batches.lines, one_by_one.lines, strict=True)
    assert all(a.confidence == pytest.approx(b.confidence, abs=1e-3) for a, b in pairs)


@given(st.text(max_size=1200))
def test_texts_are_composed_and_without_control_characters(text: str) -> None:
    cleaned = clean(text)
    assert len(cleaned) <= 1000
    assert unicodedata.is_normalized("NFC", cleaned)
    assert not any(unicodedata.category(each).startswith("C") for each in cleaned)
    assert cleaned == " ".join(cleaned.split())
    visible = "".join(each for each in text if not unicodedata.category(each).startswith("C") or each.isspace())
    kept = Counter(each for each in unicodedata.normalize("NFC", visible) if each.isalnum())
    assert len(text) > 900 or Counter(each for each in cleaned if each.isalnum()) == kept


def test_a_hidden_character_does_not_part_a_letter_from_its_accent() -> None:
    assert clean("cafe\u200b\u0301\x00 \u202eau\t lait") == "caf\u00e9 au lait"


def test_the_fingerprint_changes_with_every_field() -> None:
    spec = ReaderSpec("a", "b", "c")
    others = [ReaderSpec("x", "b", "c"), ReaderSpec("a", "x", "c"), ReaderSpec("a", "b", "x")]
    assert spec.fingerprint == ReaderSpec("a", "b", "c").fingerprint
    assert len({spec.fingerprint, *(other.fingerprint for other in others)}) == 4
    assert len(spec.fingerprint) == 64


def test_preparation_keeps_the_shape_and_enlarges_nothing() -> None:
    transform = ReadingTransform(side=400)
    assert transform(Image.new("L", (300, 20), 7)).shape == (20, 300, 3)
    assert transform(Image.new("RGB", (1600, 801))).shape == (200, 400, 3)
    assert transform(Image.new("RGB", (3, 10_000))).shape == (400, 1, 3)
    assert ReadingTransform(400).name != ReadingTransform(500).name
    assert pickle.loads(pickle.dumps(transform)) == transform


def test_a_reduced_jpeg_is_decoded_large_enough() -> None:
    body = io.BytesIO()
    Image.effect_noise((1800, 1300), 50).save(body, "JPEG")
    decoded = decode(body.getvalue(), ReadingTransform(side=600), 10**8)
    assert decoded.pixels.shape == (433, 600, 3)
    assert (decoded.width, decoded.height) == (1800, 1300)
    tall = io.BytesIO()
    Image.effect_noise((500, 1800), 50).save(tall, "JPEG")
    assert decode(tall.getvalue(), ReadingTransform(side=600), 10**8).pixels.shape[0] == 600


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, ram_core.reading, ram_core.reading.sensitive as s; s.mask('', s.KINDS, [])\n"
    code += "print(*({'onnxruntime', 'cv2', 'rapidocr', 'torch', 'omegaconf'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_page_of_small_print_is_not_taken_for_one_large_letter() -> None:
    """The first look may mark a dense page as a whole; a word of large letters is marked in a few parts."""

    def box(left: int, top: int, right: int, bottom: int) -> list[tuple[int, int]]:
        return [(left, top), (right, top), (right, bottom), (left, bottom)]

    def found(*boxes: list[tuple[int, int]]) -> detection.Found:
        return detection.Found(np.asarray(boxes, dtype=np.float32), is_cut=False)

    page = found(box(100, 100, 3000, 4000))
    rows = found(*(box(120, 120 + 40 * row, 2900, 145 + 40 * row) for row in range(90)))
    assert len(detection._joined(rows, page, 200.0).boxes) == 90
    letters = found(*(box(150 + 300 * number, 200, 400 + 300 * number, 500) for number in range(4)))
    assert len(detection._joined(letters, page, 200.0).boxes) == 1
