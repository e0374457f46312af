"""A folder as cameras, programs and network storage leave it: three photographs among thirty-one other files."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PICTURES = ("2023/IMG_0100.JPG", "2024/IMG_0001.JPG", "2024/IMG_0002.JPG")

_EA = ("SYNOINDEX_MEDIA_INFO", "SYNOPHOTO_THUMB_M.jpg", "SYNOPHOTO_THUMB_SM.jpg", "SYNOPHOTO_THUMB_XL.jpg")

FILMS = ("2023/IMG_0100.MOV", "2024/IMG_0001.MOV", "2024/IMG_0002.mov")
SIDECARS = tuple(f"{picture.removesuffix('.JPG')}{ending}" for picture in PICTURES for ending in (".AAE", ".JPG.xmp"))
IN_FOLDERS = (
    "#recycle/2022/IMG_0009.JPG",
    ".stversions/2024/IMG_0001~20240101-101010.JPG",
    *(
        f"{folder}/@eaDir/{name}.JPG/{file}"
        for folder, name in (("2023", "IMG_0100"), ("2024", "IMG_0001"), ("2024", "IMG_0002"))
        for file in _EA
    ),
)
"""Files in folders that are left out."""
FOLDERS = ("#recycle/", ".stversions/", "2023/@eaDir/", "2024/@eaDir/")
LOOSE = (
    ".DS_Store",
    "2023/._IMG_0100.JPG",
    "2024/._IMG_0001.JPG",
    "2024/._IMG_0002.JPG",
    "2024/.picasa.ini",
    "2024/.trashed-1700000000-IMG_0003.JPG",
    "2024/Thumbs.db",
    "2024/desktop.ini",
)
JUNK = (*FILMS, *SIDECARS, *IN_FOLDERS, *LOOSE)


def make_junk(root: Path, picture: bytes = b"picture") -> None:
    """Write the files. Each of the junk has bytes that no decoder takes."""
    for name in (*PICTURES, *JUNK):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture if name in PICTURES else b"\x00\x05\x16\x07 not a picture")
