"""Text in pictures, as it is asked for over HTTP: hits with their lines, counts, notes, errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.reading_archive import ReadingArchive, add_text_generation, row

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.testclient import TestClient

    from ramq.wiring import Services

pytestmark = pytest.mark.services


@pytest.fixture
def coffee(client: TestClient) -> int:
    """An image with text, among others that were read and have none."""
    services = cast("Services", cast("FastAPI", client.app).state.services)
    ids = [services.images.find(key) for key in ("coffee.png", "chelsea.png")]
    reading = ReadingArchive(services.engine, add_text_generation(services.engine), ids)
    reading.write(row(ids[0], "FRESH", "C0FFEE to go"), row(ids[1]))
    return ids[0]


def search(client: TestClient, asked: str, **parameters: str) -> dict[str, Any]:
    answer = client.get("/v1/search", params={"q": asked, **parameters})
    assert answer.status_code == 200, answer.text
    return cast("dict[str, Any]", answer.json())


def test_a_hit_has_the_lines_that_match(client: TestClient, coffee: int) -> None:
    (hit,) = search(client, 'read:"fresh coffee"')["items"]
    assert (hit["image_id"], hit["score"]) == (coffee, 0.5)
    assert [(match["line"]["text"], match["spans"]) for match in hit["read"]] == [
        ("FRESH", [[0, 5]]),
        ("C0FFEE to go", [[0, 6]]),
    ]
    assert hit["read"][0]["line"]["number"] == 1
    assert len(hit["read"][0]["line"]["polygon"]) == 4
    assert search(client, "-read:fresh")["items"][0]["read"] == []


def test_a_text_finds_it_first_and_says_why(client: TestClient, coffee: int) -> None:
    first, *others = search(client, "fresh to go", relevance="0")["items"]
    assert first["image_id"] == coffee
    assert first["why"]["is_read"] is True
    assert first["score"] > 1
    assert [match["line"]["text"] for match in first["read"]] == ["FRESH", "C0FFEE to go"]
    assert not any(hit["why"]["is_read"] or hit["read"] for hit in others)


def test_tags_of_such_images_are_counted(client: TestClient, coffee: int) -> None:
    counted = client.get("/v1/tags", params={"q": "read:fresh"}).json()["items"]
    tags = client.get(f"/v1/images/{coffee}").json()["tags"]
    assert {tag["id"] for tag in counted} == {tag["id"] for tag in tags if tag["score"] > tag["threshold"]}
    assert {tag["count"] for tag in counted} == {1}


def test_an_archive_that_was_not_read_says_so(client: TestClient) -> None:
    for strict in ("true", "false"):
        page = search(client, "read:fresh", strict=strict)
        assert page["items"] == []
        assert [note["text"] for note in page["notes"]] == [
            "No text was read in pictures yet, so read: finds nothing. `ramq read` reads it."
        ]


def test_a_word_is_needed(client: TestClient, coffee: int) -> None:
    answer = client.get("/v1/search", params={"q": 'NOT read:"?"', "strict": "true"})
    assert answer.status_code == 422
    assert answer.json()["at"] == 4
    assert "needs a word with letters or digits" in answer.json()["detail"]
    (note,) = search(client, 'read:"?"')["notes"]
    assert "needs a word" in note["text"]
    assert coffee


def test_the_page_of_an_image_tells_its_whole_history(client: TestClient, coffee: int) -> None:
    history = client.get(f"/v1/images/{coffee}").json()["history"]
    assert [(event["stage"], event["outcome"]) for event in history] == [
        ("text", "recorded"),
        ("recognition", "recorded"),
    ]
    assert "text, reader 1" in client.get(f"/images/{coffee}").text


def test_the_page_of_model_versions_lists_those_of_stages(client: TestClient, coffee: int) -> None:
    services = cast("Services", cast("FastAPI", client.app).state.services)
    other = add_text_generation(services.engine, "reader 2")
    first = other - 1
    page = client.get("/generations").text
    assert "Stages beside recognition" in page
    assert f'action="/generations/stages/{other}/use"' in page
    assert f'action="/generations/stages/{first}/use"' not in page
    assert client.post(f"/generations/stages/{other}/use").status_code == 303
    assert search(client, "read:fresh")["items"] == []
    assert client.post(f"/generations/stages/{first}/use").status_code == 303
    asked = client.post(f"/generations/stages/{first}/drop")
    assert f"of generation {first} (text, reader 1), which search uses?" in asked.text
    assert f"Search uses generation {other} (text, reader 2) then: the text in 0 images." in asked.text
    assert len(search(client, "read:fresh")["items"]) == 1
    assert client.post(f"/generations/stages/{first}/drop", data={"sure": "true"}).status_code == 303
    assert search(client, "read:fresh")["items"] == []
    assert client.post("/generations/stages/1/drop").status_code == 409
    assert client.post("/generations/stages/99/use").status_code == 404
