"""Pictures of text whose wording is known: for tests and ``benchmarks/bench_reading.py``.

The fonts come in packages (extra ``dev``), so the same pictures are drawn everywhere.
"""

from __future__ import annotations

import io
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# Name -> package and file in it. "hand" is a typeface that looks like handwriting; nobody wrote it by hand.
FACES = {
    "sans": ("fontpkg_noto_sans", "files/NotoSans[[]*"),
    "italic": ("fontpkg_noto_sans", "files/NotoSans-Italic*"),
    "serif": ("fontpkg_noto_serif", "files/NotoSerif[[]*"),
    "narrow": ("fontpkg_roboto_condensed", "files/RobotoCondensed[[]*"),
    "mono": ("fontpkg_jetbrains_mono", "files/JetBrainsMono[[]*"),
    "hand": ("fontpkg_caveat", "files/Caveat[[]*"),
    "chinese": ("justmytype_intl_cjk", "fonts/ofl/notosanssc/NotoSansSC*"),
}

_WORDS = (
    "the archive keeps every picture where it was and reads what stands on signs labels and pages of old books "
    "Größe Straße Äpfel Öl Übung weiß können Mädchen élève français garçon où naïve Noël œuvre déjà château "
    "España mañana corazón pingüino niño São Paulo coração ações Łódź Kraków źródło święto żółć gęś "
    "čeština řeka příliš žluťoučký kůň Škoda Åland smørbrød København Malmö răspuns știință İstanbul çığ şeker "
    "erdő tűzhely őszi Žižkov ljubav đak Market Street Museum Bakery Library Station Notice Exit Welcome"
)
WORDS = tuple(_WORDS.split(" "))
NUMBERS = (
    *("2026-11-28", "14:35", "1,299.00", "€ 42,50", "$19.99", "+49 30 901820", "No. 17", "3/4", "75%", "AB-1234"),
    *("10 km", "B 96", "ISBN 3-16-148410-0", "#4711", "0800 123456", "1984", "7:05 am", "12.5 kg", "A4", "C3PO"),
)
CHINESE = (
    "的一是不了人我在有他这为之大来以个中上们到说国和地也子时道出而要于就下得可你年生自会那后能对着事其里"
    "所去行过家十用发天如然作方成者多日都三小军二无同么经法当起与好看学进种将还分此心前面又定见只主没公从"
)


def has(face: str) -> bool:
    """Say whether the package of a font is installed."""
    return find_spec(FACES[face][0]) is not None


@cache
def font(face: str, size: int) -> ImageFont.FreeTypeFont:
    """Return a font; ``size`` is the height of the em in pixels: capitals are about 0.7 of it."""
    package, pattern = FACES[face]
    spec = find_spec(package)
    assert spec is not None, f"{package} is not installed: it is in the extra dev"
    (path,) = Path(next(iter(spec.submodule_search_locations or ()))).glob(pattern)
    return ImageFont.truetype(str(path), size)


def sentence(rng: np.random.Generator, kind: str, length: int) -> str:
    """Return made-up text of a kind (``latin``, ``digits``, ``chinese``) with about ``length`` characters."""
    if kind == "chinese":
        return "".join(rng.choice(list(CHINESE), size=max(1, length // 2)))
    source, words = {"latin": WORDS, "digits": NUMBERS}[kind], []
    while sum(map(len, words)) + len(words) < length:
        words.append(str(rng.choice(source)))
    return " ".join(words)


def sheet(
    lines: Sequence[str],
    face: str = "sans",
    size: int = 24,
    ink: int = 0,
    paper: int = 255,
    angle: float = 0.0,
    *,
    spacing: float = 1.9,
) -> Image.Image:
    """Draw lines under each other, grey on grey, and turn the sheet by ``angle`` degrees anticlockwise.

    Lines are ``spacing`` ems apart.
    """
    drawn = font(face, size)
    width = int(max(drawn.getlength(line) for line in lines)) + 4 * size
    picture = Image.new("RGB", (width, int(size * (spacing * len(lines) + 2.5))), (paper,) * 3)
    draw = ImageDraw.Draw(picture)
    for i, line in enumerate(lines):
        draw.text((2 * size, size * (1.2 + spacing * i)), line, font=drawn, fill=(ink,) * 3)
    if angle:
        picture = picture.rotate(angle, Image.Resampling.BICUBIC, expand=True, fillcolor=(paper,) * 3)
    return picture


def spoil(picture: Image.Image, *, blur: float = 0.0, noise: float = 0.0, quality: int | None = None) -> Image.Image:
    """Blur (radius in pixels), add noise (deviation in levels) and compress as JPEG, in this order."""
    if blur:
        picture = picture.filter(ImageFilter.GaussianBlur(blur))
    if noise:
        grain = np.random.default_rng(0).normal(0, noise, (picture.height, picture.width, 1))
        picture = Image.fromarray(np.clip(np.asarray(picture) + grain, 0, 255).astype(np.uint8))
    if quality is not None:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality)
        picture = Image.open(io.BytesIO(file.getvalue())).convert("RGB")
    return picture


def pixels(picture: Image.Image) -> NDArray[np.uint8]:
    """Return (H, W, 3) uint8."""
    return np.asarray(picture.convert("RGB"))


def edits(said: str, written: str) -> int:
    """Return the number of characters to change, insert or delete (Levenshtein)."""
    row = np.arange(len(written) + 1)
    columns = np.arange(len(written) + 1)
    target = np.array(list(written))
    for i, character in enumerate(said, 1):
        change = row[:-1] + (target != character)
        best = np.concatenate([[i], np.minimum(change, row[1:] + 1)])
        row = np.minimum.accumulate(best - columns) + columns  # insertions, from left to right
    return int(row[-1])
