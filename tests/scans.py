"""Files with pages: what a scanner and an office program write."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def page(seed: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """A page of coarse noise: another one for each seed."""
    noise = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.NEAREST)


def tiff(seeds: Sequence[int], path: Path | None = None, **options: str) -> bytes:
    """A TIFF file with a page for each seed."""
    return _written([page(seed) for seed in seeds], "TIFF", path, options)


def pdf(seeds: Sequence[int], path: Path | None = None) -> bytes:
    """A PDF file with a page for each seed."""
    return _written([page(seed) for seed in seeds], "PDF", path, {})


def _written(pages: Sequence[Image.Image], kind: str, path: Path | None, options: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    pages[0].save(buffer, kind, save_all=True, append_images=list(pages[1:]), **options)
    body = buffer.getvalue()
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    return body


def empty_pdf(sizes: Sequence[tuple[float, float]]) -> bytes:
    """A PDF file of white pages of these sizes in points."""
    kids = " ".join(f"{number} 0 R" for number in range(3, 3 + len(sizes)))
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Count {len(sizes)}/Kids[{kids}]>>",
        *(f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 {width} {height}]>>" for width, height in sizes),
    ]
    return _pdf_of(objects, "")


def encrypted_pdf() -> bytes:
    """A PDF file that nobody can open without a password that nobody knows (the standard handler, revision 2)."""
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        "<</Type/Pages/Count 1/Kids[3 0 R]>>",
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 100 100]>>",
        f"<</Filter/Standard/V 1/R 2/Length 40/P -4/O<{'11' * 32}>/U<{'22' * 32}>>>",
    ]
    return _pdf_of(objects, f"/Encrypt 4 0 R/ID[<{'33' * 16}><{'33' * 16}>]")


def _pdf_of(objects: Sequence[str], more: str) -> bytes:
    body, places = bytearray(b"%PDF-1.4\n"), []
    for number, content in enumerate(objects, 1):
        places.append(len(body))
        body += f"{number} 0 obj{content}endobj\n".encode()
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    end = (
        f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer<</Size {len(objects) + 1}/Root 1 0 R{more}>>"
    )
    return bytes(body) + f"{end}\nstartxref\n{len(body)}\n%%EOF\n".encode()


def told_pdf() -> bytes:
    """A PDF file that says what it is."""
    said = "/Title(To Anna)/Author(Ben)/Subject(a letter)/Keywords(post, 1912; Vienna)"
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        "<</Type/Pages/Count 1/Kids[3 0 R]>>",
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 100 100]>>",
        f"<<{said}/CreationDate(D:19120304050607+01'00')>>",
    ]
    return _pdf_of(objects, "/Info 4 0 R")
