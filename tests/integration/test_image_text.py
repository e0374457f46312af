"""The text in images: read over the API, corrected by people, exported, shown by commands."""

from __future__ import annotations

import io
import json
import tarfile
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from ramq.services.export import write_rows, write_text_files
from storage.errors import NotFoundError, UsageError
from storage.results.generations import StageSpec
from storage.results.reading_views import FoundLine
from storage.search.views import SearchQuery
from tests.readings import HOSTILE, rectangle
from tests.services.read import write_text, write_text_of
from tests.services.web import assert_problem, services_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.testclient import TestClient

pytestmark = pytest.mark.services

GOOD = FoundLine("GOOD MORMING", 0.71, rectangle(0.1, 0.1, 0.6, 0.2))
CAFE = FoundLine("早上好 café", 0.98, rectangle(0.1, 0.3, 0.6, 0.4))
HOSTILE_LINE = FoundLine(HOSTILE, 0.5, rectangle(0.1, 0.5, 0.9, 0.6))


@pytest.fixture
def cup(client: TestClient) -> int:
    """An image in which text was read."""
    services = services_of(client)
    image_id = services.images.find("coffee.png")
    write_text(services, image_id, [GOOD, CAFE, HOSTILE_LINE])
    return image_id


def lines_of(answer: Any) -> list[tuple[str, bool]]:
    """The lines of an answer, and whether each was corrected."""
    assert answer.status_code in {200, 201}, answer.text
    return [(line["text"], line["correction_id"] is not None) for line in answer.json()["lines"]]


def test_the_lines_of_an_image_are_told_with_their_places(client: TestClient, cup: int) -> None:
    told = client.get(f"/v1/images/{cup}/text").json()
    assert (told["image_id"], told["model"], told["is_cut"], told["corrections"]) == (cup, "ppocr_v6", False, [])
    assert told["lines"][0] == {
        "number": 1, "text": "GOOD MORMING", "confidence": 0.71, "correction_id": None,
        "polygon": [[0.1, 0.1], [0.6, 0.1], [0.6, 0.2], [0.1, 0.2]],
    }  # fmt: skip
    assert [line["number"] for line in told["lines"]] == [1, 2, 3]


def test_the_text_comes_as_a_file_that_no_browser_runs(client: TestClient, cup: int) -> None:
    plain = client.get(f"/v1/images/{cup}/text?format=txt")
    assert plain.text.splitlines()[:2] == ["GOOD MORMING", "早上好 café"]
    assert plain.headers["content-type"] == "text/plain; charset=utf-8"
    hocr = client.get(f"/v1/images/{cup}/text?format=hocr")
    assert hocr.headers["content-type"] == "text/vnd.hocr+html; charset=utf-8"
    assert 'bbox 60 40 360 80"' not in hocr.text  # the words have boxes of their own
    assert "bbox 60 40 360 80; poly" in hocr.text  # of 600 x 400 pixels
    alto = client.get(f"/v1/images/{cup}/text?format=alto")
    assert alto.headers["content-type"] == "application/xml"
    for answer in (hocr, alto):
        ET.fromstring(answer.text)
        assert "<script>" not in answer.text
        assert "sandbox" in answer.headers["content-security-policy"]
        assert "coffee.png" in answer.headers["content-disposition"]
    assert_problem(client.get(f"/v1/images/{cup}/text?format=pdf"), 422, "invalid-request")


def test_what_was_not_read_says_how_to_read_it(client: TestClient, cup: int) -> None:
    cat = services_of(client).images.find("chelsea.png")
    problem = assert_problem(client.get(f"/v1/images/{cat}/text"), 404, "not-found")
    assert "ramq read" in problem["detail"]
    assert_problem(client.get("/v1/images/999999/text"), 404, "not-found")
    assert_problem(client.get(f"/v1/images/{cup}/text?generation=999"), 404, "not-found")
    assert_problem(client.get(f"/v1/images/{cup}/text?generation=1"), 404, "not-found")  # it recognises
    body = {"polygon": GOOD.polygon, "text": "X"}
    assert_problem(client.post(f"/v1/images/{cat}/text/corrections", json=body), 404, "not-found")


def test_another_generation_is_shown_when_it_is_asked_for(client: TestClient, cup: int) -> None:
    services = services_of(client)
    other = write_text_of(services.engine, {cup: [CAFE]}, spec=StageSpec("text", "e" * 64, "ppocr_v7", "1" * 64, "-"))
    assert len(client.get(f"/v1/images/{cup}/text").json()["lines"]) == 3
    told = client.get(f"/v1/images/{cup}/text", params={"generation": other}).json()
    assert (told["model"], len(told["lines"])) == ("ppocr_v7", 1)


def test_a_line_is_corrected_denied_and_taken_back(client: TestClient, cup: int) -> None:
    path = f"/v1/images/{cup}/text/corrections"
    answer = client.post(path, json={"polygon": GOOD.polygon, "text": " GOOD MORNING "})
    assert answer.status_code == 201
    assert lines_of(answer)[:2] == [("GOOD MORNING", True), ("早上好 café", False)]
    [said] = answer.json()["corrections"]
    assert (said["text"], said["said_by"], said["polygon"]) == (
        "GOOD MORNING",
        "local",
        [list(c) for c in GOOD.polygon],
    )
    assert answer.json()["lines"][0]["confidence"] == 1

    denied = client.post(path, json={"polygon": HOSTILE_LINE.polygon, "text": None})
    assert [text for text, _ in lines_of(denied)] == ["GOOD MORNING", "早上好 café"]
    for one in denied.json()["corrections"]:
        last = client.delete(f"{path}/{one['id']}")
    assert lines_of(last) == [("GOOD MORMING", False), ("早上好 café", False), (HOSTILE, False)]
    assert last.json()["corrections"] == []
    assert_problem(client.delete(f"{path}/{said['id']}"), 404, "not-found")


def test_a_correction_belongs_to_its_image(client: TestClient, cup: int) -> None:
    services = services_of(client)
    cat = services.images.find("chelsea.png")
    write_text(services, cat, [CAFE])
    correction = services.readings.correct(cat, CAFE.polygon, "x")
    assert_problem(client.delete(f"/v1/images/{cup}/text/corrections/{correction}"), 404, "not-found")
    with pytest.raises(NotFoundError, match=f"ramq line {cup}"):
        services.readings.withdraw(cup, correction)
    assert services.readings.get(cat).lines[0].text == "x"


@pytest.mark.parametrize(
    "body",
    [
        {"polygon": GOOD.polygon},
        {"polygon": GOOD.polygon, "text": ""},
        {"polygon": GOOD.polygon, "text": "x" * 1_001},
        {"polygon": GOOD.polygon, "text": "a\nb"},
        {"polygon": GOOD.polygon, "text": "a\u0000b"},
        {"polygon": GOOD.polygon[:3], "text": "x"},
        {"polygon": [[0, 0], [2, 0], [2, 1], [0, 1]], "text": "x"},
        {"polygon": [[0, 0, 0]] * 4, "text": "x"},
        {"polygon": GOOD.polygon, "text": "x", "by": "me"},
    ],
)
def test_what_is_no_correction_is_refused_and_nothing_is_kept(
    client: TestClient, cup: int, body: dict[str, Any]
) -> None:
    answer = client.post(f"/v1/images/{cup}/text/corrections", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert services_of(client).readings.corrections(cup) == []


def test_the_service_checks_too(client: TestClient, cup: int) -> None:
    correct = services_of(client).readings.correct
    for polygon, text in ((GOOD.polygon[:2], "x"), (rectangle(0, 0, 1, 1.5), None), (GOOD.polygon, "a\x1bb")):
        with pytest.raises(UsageError):
            correct(cup, polygon, text)
    with pytest.raises(NotFoundError, match="no image 999999"):
        correct(999999, GOOD.polygon, "x")


def test_correcting_needs_the_scope_write_and_keeps_the_name(make_client: Callable[..., TestClient], cup: int) -> None:
    client = make_client(api_tokens=("ann:write:a-secret", "eve:read:e-secret"))
    path = f"/v1/images/{cup}/text/corrections"
    body = {"polygon": GOOD.polygon, "text": "x"}
    reader, writer = ({"Authorization": f"Bearer {secret}"} for secret in ("e-secret", "a-secret"))
    assert_problem(client.post(path, json=body, headers=reader), 403, "forbidden")
    [said] = client.post(path, json=body, headers=writer).json()["corrections"]
    assert said["said_by"] == "ann"
    assert_problem(client.delete(f"{path}/{said['id']}", headers=reader), 403, "forbidden")
    assert client.get(f"/v1/images/{cup}/text", headers=reader).json()["corrections"] == [said]
    assert client.delete(f"{path}/{said['id']}", headers=writer).json()["corrections"] == []


# The page ------------------------------------------------------------------------------------------------------------


def test_the_page_shows_corrects_and_takes_back_with_plain_forms(client: TestClient, cup: int) -> None:
    page = client.get(f"/images/{cup}").text
    assert "GOOD MORMING" in page
    assert "<script>alert" not in page
    assert "\u202e" not in page
    posted = {"polygon": "0.1 0.1 0.6 0.1 0.6 0.2 0.1 0.2", "text": "GOOD MORNING", "say": "text", "line": "1"}
    answer = client.post(f"/images/{cup}/text", data=posted)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/images/{cup}#line-1")
    page = client.get(f"/images/{cup}").text
    assert "corrected by you on" in page
    [said] = services_of(client).readings.corrections(cup)
    assert client.post(f"/images/{cup}/text", data=posted | {"say": "none"}).status_code == 303
    page = client.get(f"/images/{cup}").text
    assert "GOOD MORNING" not in page
    assert "Said to be no text" in page
    [denied] = services_of(client).readings.corrections(cup)
    undone = client.post(f"/images/{cup}/text", data={"say": "nothing", "correction": denied.id})
    assert (undone.status_code, undone.headers["location"]) == (303, f"/images/{cup}#text")
    assert "GOOD MORMING" in client.get(f"/images/{cup}").text
    refused = client.post(f"/images/{cup}/text", data=posted | {"text": " "})
    assert refused.status_code == 422
    assert 'role="alert"' in refused.text
    assert client.post(f"/images/{cup}/text", data=posted | {"polygon": "a b"}).status_code == 422
    gone = client.post(f"/images/{cup}/text", data={"say": "nothing", "correction": said.id})
    assert gone.status_code == 404
    foreign = client.post(f"/images/{cup}/text", data=posted, headers={"Sec-Fetch-Site": "cross-site"})
    assert foreign.status_code == 403


def test_a_page_without_text_says_so_and_one_that_was_not_read_has_no_list(client: TestClient, cup: int) -> None:
    services = services_of(client)
    cat = services.images.find("chelsea.png")
    assert "Text in the picture" not in client.get(f"/images/{cat}").text
    write_text(services, cat, [])
    assert "No text was found." in client.get(f"/images/{cat}").text


def test_a_reader_is_offered_no_correction(make_client: Callable[..., TestClient], cup: int) -> None:
    client = make_client(api_tokens=("eve:read:e-secret",))
    page = client.get(f"/images/{cup}", headers={"Authorization": "Bearer e-secret", "accept": "text/html"}).text
    assert "GOOD MORMING" in page
    assert f'action="/images/{cup}/text"' not in page


def test_hits_show_the_lines_that_match_and_lead_to_them(client: TestClient, cup: int) -> None:
    page = client.get("/", params={"q": "read:good"}).text
    assert '<bdi dir="auto"><mark>GOOD</mark> MORMING</bdi>' in page
    assert f'href="/images/{cup}?q=read%3Agood"' in page
    image = client.get(f"/images/{cup}", params={"q": "read:good"}).text
    assert 'id="spot-1" class="spot found"' in image
    assert '<bdi dir="auto"><mark>GOOD</mark> MORMING</bdi>' in image
    assert 'id="spot-2" class="spot"' in image
    plain = client.get("/", params={"tag": "espresso"}).text
    assert f'href="/images/{cup}"' in plain
    assert "<mark>" not in plain


def test_words_of_a_text_are_marked_if_all_of_them_stand_there(client: TestClient, cup: int) -> None:
    assert "<mark>café</mark>" in client.get(f"/images/{cup}", params={"q": "café"}).text
    assert "<mark>" not in client.get(f"/images/{cup}", params={"q": "café castle"}).text


@pytest.mark.parametrize("q", ["", "(", "read:", "\0", "x" * 9_000, "archive:nowhere", HOSTILE])
def test_whatever_was_searched_for_the_image_is_shown(client: TestClient, cup: int, q: str) -> None:
    page = client.get(f"/images/{cup}", params={"q": q})
    assert page.status_code == 200
    assert "GOOD MORMING" in page.text


# Export --------------------------------------------------------------------------------------------------------------


def test_exports_have_the_corrected_text(client: TestClient, cup: int) -> None:
    services = services_of(client)
    services.readings.correct(cup, GOOD.polygon, "GOOD MORNING")
    made_by, hits = services.search.export(SearchQuery())
    file = io.BytesIO()
    write_rows(hits, "jsonl", file, made_by, services.readings.views)
    rows = {row["image_id"]: row["text"] for row in map(json.loads, file.getvalue().splitlines())}
    assert [line["text"] for line in rows[cup]][:2] == ["GOOD MORNING", "早上好 café"]
    assert rows[cup][0]["confidence"] == 1
    assert {text is None for image_id, text in rows.items() if image_id != cup} == {True}

    file = io.BytesIO()
    counts = write_text_files(services.search.export(SearchQuery())[1], "alto", file, services.readings.views)
    assert counts == (1, len(rows) - 1)
    with tarfile.open(fileobj=io.BytesIO(file.getvalue())) as archive:
        assert archive.getnames() == [f"0/{cup}-coffee.png.alto.xml"]
