"""Captions agree with what people said of tags, wherever they are shown and exported."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from ramq.services.export import write_rows
from storage.database import unit_of_work
from storage.search.views import SearchQuery
from tests.services.command_line import run_here
from tests.services.recognised import CAT
from tests.services.web import services_of

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from starlette.testclient import TestClient

    from ramq.wiring import Services

pytestmark = pytest.mark.services


def let_a_model_write(services: Services, image_id: int, caption: str | None, captioner: str = "tag2text") -> None:
    with unit_of_work(services.engine) as session:
        session.execute(
            text("UPDATE record SET caption = :caption, captioner = :captioner WHERE image_id = :id"),
            {"caption": caption, "captioner": captioner, "id": image_id},
        )


def exported(services: Services, image_id: int, format_: str = "jsonl") -> list[dict[str, object]]:
    made_by, hits = services.search.export(SearchQuery())
    file = io.BytesIO()
    write_rows((hit for hit in hits if hit.image_id == image_id), format_, file, made_by)
    content = file.getvalue()
    return [json.loads(line) for line in content.splitlines()] if format_ == "jsonl" else json.loads(content)["images"]


@pytest.mark.parametrize("spelling", ["two Egyptian cats on a sofa", "an egyptian cat and a dog", "EGYPTIAN-CAT"])
def test_a_caption_of_a_model_says_which_of_its_tags_a_person_removed(client: TestClient, spelling: str) -> None:
    services = services_of(client)
    cat = services.images.find("chelsea.png")
    let_a_model_write(services, cat, spelling)
    assert services.images.get(cat).caption_contradicts == ()
    services.corrections.tag([cat], remove=[CAT, "espresso"])
    view = services.images.get(cat)
    assert (view.caption, view.captioner, view.caption_contradicts) == (spelling, "tag2text", (CAT,))
    assert client.get(f"/v1/images/{cat}").json()["caption_contradicts"] == [CAT]
    by_id = {item["image_id"]: item for item in client.get("/v1/search", params={"limit": 100}).json()["items"]}
    assert by_id.pop(cat)["caption_contradicts"] == [CAT]
    assert not any(item["caption_contradicts"] for item in by_id.values())
    for format_ in ("jsonl", "coco"):
        [row] = exported(services, cat, format_)
        assert (row["caption"], row["caption_contradicts"]) == (spelling, [CAT])
    mark = f"A person removed {CAT}, but this caption names it."
    assert mark in client.get(f"/images/{cat}").text
    assert mark in client.get("/").text
    services.corrections.tag([cat], reset=[CAT])
    assert services.images.get(cat).caption_contradicts == ()
    assert mark not in client.get("/").text


def test_what_a_caption_denies_or_does_not_name_is_no_contradiction(client: TestClient) -> None:
    services = services_of(client)
    cat = services.images.find("chelsea.png")
    services.corrections.tag([cat], remove=[CAT])
    for caption in ("no Egyptian cat, only a cushion", "a cat on a sofa", "an Egyptian pyramid"):
        let_a_model_write(services, cat, caption)
        assert services.images.get(cat).caption_contradicts == ()


def test_synonyms_and_chinese_names_count(client: TestClient) -> None:
    services = services_of(client)
    cat = services.images.find("chelsea.png")
    with unit_of_work(services.engine) as session:
        session.execute(text("UPDATE tag SET synonyms = '{mau,埃及猫}' WHERE name = :name"), {"name": CAT})
        session.execute(text("UPDATE vocabulary SET edition = edition + 1"))
    services.corrections.tag([cat], remove=["mau"])
    for caption in ("a mau that sleeps", "一只埃及猫"):
        let_a_model_write(services, cat, caption)
        assert services.images.get(cat).caption_contradicts == (CAT,)


def test_a_composed_caption_is_composed_of_the_corrected_tags(client: TestClient) -> None:
    services = services_of(client)
    cat, cup = services.images.find("chelsea.png"), services.images.find("coffee.png")
    services.corrections.tag([cat], remove=[CAT])
    services.corrections.tag([cup], add=[CAT])
    for caption in (services.images.get(cup).caption, exported(services, cup)[0]["caption"]):
        assert str(caption).startswith(f"A photograph that may show an {CAT}"), "what a person added comes first"
    for image_id in (cat, cup):
        [row] = exported(services, image_id)
        shown = services.images.get(image_id)
        assert shown.caption == row["caption"]
        assert (CAT in str(shown.caption)) == (image_id == cup)
        assert shown.caption_contradicts == ()


def test_an_image_without_tags_gets_a_caption_when_a_person_adds_one(client: TestClient) -> None:
    services = services_of(client)
    cat = services.images.find("chelsea.png")
    let_a_model_write(services, cat, None, "template")
    with unit_of_work(services.engine) as session:
        session.execute(text("UPDATE record SET tags = '{}', scores = '{}' WHERE image_id = :id"), {"id": cat})
    assert (services.images.get(cat).caption, services.images.get(cat).captioner) == (None, None)
    services.corrections.tag([cat], add=[CAT])
    view = services.images.get(cat)
    assert (view.caption, view.captioner) == (f"A picture tagged {CAT}.", "template")
    let_a_model_write(services, cat, None, "none")
    assert services.images.get(cat).caption is None


def test_the_command_line_says_so_too(client: TestClient, recognised_engine: Engine) -> None:
    services = services_of(client)
    cat = services.images.find("chelsea.png")
    let_a_model_write(services, cat, "an Egyptian cat on a sofa")
    services.corrections.tag([cat], remove=[CAT])
    environment = {
        "RAMQ_DATABASE_URL": recognised_engine.url.render_as_string(hide_password=False),
        "RAMQ_DATA_DIR": str(services.settings.data_dir),
        "COLUMNS": "300",
    }
    for command in (["show", str(cat)], ["search", "--prefix", "chelsea"]):
        done = run_here(command, environment)
        assert done.returncode == 0, done.stderr
        assert f"an Egyptian cat on a sofa (a person removed {CAT})" in done.stdout
