"""``ramq sidecars``: beside the originals, into a folder, again, and where it cannot write."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING

import pytest

from ram_core.xmp_packet import Words, written
from ramq.demo_photos import installed_photographs
from ramq.wiring import Services
from tests.services.command_line import run_here
from tests.services.recognised import CAT, recognise, settings_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import CompletedProcess

    from sqlalchemy import Engine

    Run = Callable[..., CompletedProcess[str]]

pytestmark = pytest.mark.services


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    (folder / "2024").mkdir(parents=True)
    cat = next(path for path in installed_photographs() if path.name == "chelsea.png")
    shutil.copy(cat, folder / "2024" / "IMG_1.png")
    shutil.copy(cat, folder / "cat.png")
    return folder


@pytest.fixture
def run(engine: Engine, archive: Path, tmp_path: Path) -> Run:
    services = Services(settings_for(tmp_path / "data"), engine, None, is_reachable=False)
    assert recognise(services, str(archive)).done == 2
    environment = {
        "RAMQ_DATABASE_URL": engine.url.render_as_string(hide_password=False),
        "RAMQ_DATA_DIR": str(tmp_path / "data"),
    }
    return lambda *words: run_here(words, environment)


def subjects(path: Path) -> list[str]:
    pyexiv2 = pytest.importorskip("pyexiv2")
    image = pyexiv2.Image(str(path))
    found: list[str] = image.read_xmp()["Xmp.dc.subject"]
    image.close()
    return found


def hashes(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.png")}


def test_sidecars_lie_beside_originals_that_stay_as_they_are(run: Run, archive: Path) -> None:
    before = hashes(archive)
    by_hand = written(None, Words(("Tom",)))
    assert by_hand is not None
    (archive / "cat.png.xmp").write_bytes(by_hand.replace(b"ramq:subject", b"ramq:other"))

    told = run("sidecars", "--beside")
    assert (told.returncode, told.stdout) == (0, "2 sidecars written, 0 up to date, 0 left out\n"), told.stderr
    assert CAT in subjects(archive / "2024" / "IMG_1.png.xmp")
    assert subjects(archive / "cat.png.xmp")[0] == "Tom"
    assert CAT in subjects(archive / "cat.png.xmp")
    assert hashes(archive) == before
    assert sorted(path.name for path in archive.rglob("*.*")) == [
        "IMG_1.png", "IMG_1.png.xmp", "cat.png", "cat.png.xmp",
    ]  # fmt: skip

    assert run("sidecars", "--beside").stdout == "0 sidecars written, 2 up to date, 0 left out\n"


def test_a_correction_reaches_the_sidecar(run: Run, archive: Path) -> None:
    assert run("sidecars", "--beside").returncode == 0
    assert run("tag", "cat.png", "--remove", CAT).returncode == 0
    assert run("sidecars", "--beside").stdout == "1 sidecar written, 1 up to date, 0 left out\n"
    assert CAT not in subjects(archive / "cat.png.xmp")
    assert CAT in subjects(archive / "2024" / "IMG_1.png.xmp")


def test_a_folder_gets_the_keys_of_the_hits(run: Run, archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    told = run("sidecars", "--prefix", "2024/", "--out", str(out))
    assert (told.returncode, told.stdout) == (0, "1 sidecar written, 0 up to date, 0 left out\n"), told.stderr
    assert [str(path.relative_to(out)) for path in out.rglob("*.*")] == ["2024/IMG_1.png.xmp"]
    assert not list(archive.rglob("*.xmp"))


def test_what_cannot_be_written_is_named_and_the_rest_is_written(run: Run, archive: Path, tmp_path: Path) -> None:
    (archive / "cat.png.xmp").write_text("notes of mine")
    told = run("sidecars", "--beside")
    assert (told.returncode, told.stdout) == (1, "1 sidecar written, 0 up to date, 1 left out\n")
    assert "(cat.png): it is not XML" in told.stderr
    assert (archive / "cat.png.xmp").read_text() == "notes of mine"

    (archive / "cat.png.xmp").unlink()
    outside = tmp_path / "outside.xmp"
    (archive / "cat.png.xmp").symlink_to(outside)
    told = run("sidecars", "--beside")
    assert told.returncode == 1
    assert "symbolic link, which is not followed" in told.stderr
    assert not outside.exists()

    (archive / "cat.png.xmp").unlink()
    (archive / "cat.png.xmp").mkdir()
    told = run("sidecars", "--beside")
    assert (told.returncode, told.stdout) == (1, "0 sidecars written, 1 up to date, 1 left out\n")
    assert "cat.png.xmp is a folder" in told.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "--beside, --out DIR, or --to s3://BUCKET/PREFIX"),
        (("--beside", "--out", "x"), "--beside, --out DIR, or --to s3://BUCKET/PREFIX"),
        (("--out", "x", "--to", "s3://bucket"), "--beside, --out DIR, or --to s3://BUCKET/PREFIX"),
        (("--to", "sidecars"), "--to takes a bucket"),
        (("--beside", "--names", "short"), "choose one of full, lightroom"),
    ],
)
def test_what_is_asked_for_wrongly_is_refused(words: tuple[str, ...], told: str) -> None:
    refused = run_here(["sidecars", *words], {})
    assert refused.returncode == 2
    assert told in refused.stderr
