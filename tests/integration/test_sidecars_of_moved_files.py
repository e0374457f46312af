"""Pictures that move or trade names: each has what its own file says, and the sidecar that is beside it now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.test_read_sidecars import beside, run, told
from tests.same_picture import picture

if TYPE_CHECKING:
    from pathlib import Path

    from ramq.wiring import Services
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for number, name in enumerate("abc"):
        picture(folder / f"{name}.png", number)
    return folder


def swap(folder: Path, one: str, other: str) -> None:
    (folder / one).rename(folder / "aside")
    (folder / other).rename(folder / one)
    (folder / "aside").rename(folder / other)


def facts(services: Services, *keys: str) -> list[tuple[int | None, str | None]]:
    return [(told(services, key).rating, told(services, key).sidecar) for key in keys]


@pytest.mark.parametrize("is_spoken_of", [False, True])
@pytest.mark.parametrize("ending", [".png.xmp", ".xmp"])
def test_pictures_that_trade_names_alone_have_what_the_sidecar_beside_them_says(
    services: Services, made: Worker, folder: Path, ending: str, *, is_spoken_of: bool
) -> None:
    beside(folder / f"a{ending}", rating="5", keywords=["mine"])
    run(services, made, folder)
    ids = {key: services.images.find(key) for key in ("a.png", "b.png")}
    if is_spoken_of:
        services.corrections.tag([ids["a.png"]], add=["tag 1"])
    swap(folder, "a.png", "b.png")
    run(services, made, folder)
    assert services.images.find("b.png") == ids["a.png"]
    assert facts(services, "a.png", "b.png") == [(5, f"a{ending}"), (None, None)]
    assert told(services, "b.png").keywords == []
    (folder / f"a{ending}").unlink()
    run(services, made, folder)
    assert facts(services, "a.png", "b.png") == [(None, None), (None, None)]


def test_a_series_that_is_numbered_anew_leaves_each_sidecar_where_it_is(
    services: Services, made: Worker, folder: Path
) -> None:
    for rating, name in enumerate("abc", 1):
        beside(folder / f"{name}.png.xmp", rating=str(rating))
    run(services, made, folder)
    image_id = services.images.find("a.png")
    for old, new in (("c", "d"), ("b", "c"), ("a", "b")):
        (folder / f"{old}.png").rename(folder / f"{new}.png")
    run(services, made, folder)
    assert services.images.find("b.png") == image_id
    assert facts(services, "b.png", "c.png", "d.png") == [(2, "b.png.xmp"), (3, "c.png.xmp"), (None, None)]
    for name in "abc":
        (folder / f"{name}.png.xmp").unlink()
    run(services, made, folder)
    assert facts(services, "b.png", "c.png", "d.png") == [(None, None)] * 3


def test_pictures_that_trade_names_with_their_sidecars_keep_their_words(
    services: Services, made: Worker, folder: Path
) -> None:
    beside(folder / "a.png.xmp", rating="1")
    beside(folder / "b.png.xmp", rating="2")
    run(services, made, folder)
    swap(folder, "a.png", "b.png")
    swap(folder, "a.png.xmp", "b.png.xmp")
    run(services, made, folder)
    assert facts(services, "a.png", "b.png") == [(2, "a.png.xmp"), (1, "b.png.xmp")]


def test_a_picture_that_moves_has_the_words_of_no_sidecar_that_stays_or_goes(
    services: Services, made: Worker, folder: Path
) -> None:
    beside(folder / "a.png.xmp", rating="1")
    beside(folder / "b.png.xmp", rating="2")
    run(services, made, folder)
    (folder / "new").mkdir()
    (folder / "a.png").rename(folder / "new" / "a.png")
    for name in ("b.png", "b.png.xmp"):
        (folder / name).rename(folder / "new" / name)
    run(services, made, folder)
    assert facts(services, "new/a.png", "new/b.png") == [(None, None), (2, "new/b.png.xmp")]
    (folder / "new/b.png.xmp").unlink()
    run(services, made, folder)
    assert facts(services, "new/a.png", "new/b.png") == [(None, None), (None, None)]


def test_a_picture_that_was_replaced_has_no_words_of_the_one_that_is_there(
    services: Services, made: Worker, folder: Path
) -> None:
    beside(folder / "a.xmp", rating="5")
    run(services, made, folder)
    image_id = services.images.find("a.png")
    services.corrections.tag([image_id], add=["tag 1"])
    picture(folder / "a.png", 9)
    run(services, made, folder)
    run(services, made, folder)
    assert services.images.find("a.png") != image_id
    gone = services.images.get(image_id).metadata
    assert gone is None or (gone.rating, gone.sidecar) == (None, None)
    assert facts(services, "a.png") == [(5, "a.xmp")]
