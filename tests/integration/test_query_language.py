"""The query language through the API and the page, over recognised photographs."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.services.recognised import CAT, PHOTOGRAPHS
from tests.services.web import assert_problem

if TYPE_CHECKING:
    from starlette.testclient import TestClient

pytestmark = pytest.mark.services

HTML = {"accept": "text/html"}


def found(client: TestClient, q: str, **more: Any) -> set[str]:
    response = client.get("/v1/search", params={"q": q, "limit": 500, **more})
    assert response.status_code == 200, response.text
    return {item["key"] for item in response.json()["items"]}


def all_hits(client: TestClient) -> set[str]:
    keys = found(client, "")
    assert len(keys) == PHOTOGRAPHS + 1
    return keys


def test_a_tag_is_asked_for_in_every_form(client: TestClient) -> None:
    (hit,) = client.get("/v1/search", params={"tag": CAT}).json()["items"]
    number = next(tag["id"] for tag in hit["tags"] if tag["name"] == CAT)

    for q in (f'"{CAT}"', f'tag:"{CAT}"', f"#{number}", f"tag:{number}", f'("{CAT}")', f'NOT -"{CAT.upper()}"'):
        assert found(client, q) == {"chelsea.png"}, q


def test_operators_join_what_they_stand_between(client: TestClient) -> None:
    cats, coffee = found(client, f'"{CAT}"'), found(client, "tag:espresso")
    assert cats
    assert coffee
    assert not cats & coffee

    assert found(client, f'"{CAT}" OR espresso') == cats | coffee
    assert found(client, f'"{CAT}" AND espresso') == set()
    assert found(client, f'-("{CAT}" OR espresso)') == all_hits(client) - cats - coffee
    assert found(client, f'"{CAT}" OR NOT espresso') == all_hits(client) - coffee
    assert found(client, f'("{CAT}" OR espresso) -espresso') == cats


def test_a_threshold_can_stand_behind_one_tag(client: TestClient) -> None:
    (hit,) = client.get("/v1/search", params={"q": "tag:espresso"}).json()["items"]
    score = next(tag["score"] for tag in hit["tags"] if tag["name"] == "espresso")

    assert found(client, f"score:espresso>{score - 0.01:.4f}") == {hit["key"]}
    assert found(client, f"score:espresso>{score + 0.01:.4f}") == set()
    assert hit["key"] in found(client, f'score:espresso>{score - 0.01:.4f} OR "{CAT}"', threshold=1)


def test_filters_narrow_by_what_is_known_of_the_file(client: TestClient) -> None:
    images = [client.get(f"/v1/images/{n}").json() for n in range(1, PHOTOGRAPHS + 4)]
    recorded = [image for image in images if image.get("model")]
    sizes = sorted(image["size_bytes"] for image in recorded)
    middle = sizes[len(sizes) // 2]
    keys = all_hits(client)

    assert found(client, f"larger:{middle}") == {i["key"] for i in recorded if i["size_bytes"] >= middle}
    assert found(client, f"smaller:{middle}") == {i["key"] for i in recorded if i["size_bytes"] < middle}
    assert found(client, "after:2000-01-01") == keys
    assert found(client, "before:2000-01-01") == set()
    assert found(client, "-prefix:odd/") == {key for key in keys if not key.startswith("odd/")}
    assert found(client, "archive:1 job:1") == keys
    assert found(client, "NOT job:1") == set()


def test_words_rank_what_the_rest_allows(client: TestClient) -> None:
    first, *others = client.get("/v1/search", params={"q": f'a cup of coffee (espresso OR "{CAT}")'}).json()["items"]

    assert first["key"] == "coffee.png"
    assert {item["key"] for item in others} <= {"chelsea.png"}  # which a search may leave out as too unlike


def test_the_box_and_the_parameters_narrow_together(client: TestClient) -> None:
    assert found(client, f'espresso OR "{CAT}"', tag=CAT) == {"chelsea.png"}
    assert found(client, f'-"{CAT}"', tag=CAT) == set()


def test_facets_follow_the_box(client: TestClient) -> None:
    facets = client.get("/v1/tags", params={"q": f'"{CAT}"', "limit": 500}).json()["items"]

    assert {facet["count"] for facet in facets} == {1}
    assert CAT in {facet["name"] for facet in facets}


def test_a_syntax_error_is_a_problem_that_points(client: TestClient) -> None:
    for path in ("/v1/search", "/v1/tags"):
        problem = assert_problem(client.get(path, params={"q": "狗 (cat OR", "strict": True}), 422, "query-syntax")
        assert problem["at"] == 7
        assert problem["pointer"] == "狗 (cat OR\n        ^"
        assert "OR needs a tag" in problem["detail"]


def test_an_unknown_tag_in_the_box_is_pointed_at(client: TestClient) -> None:
    problem = assert_problem(
        client.get("/v1/search", params={"q": 'beach -"Egyptian cab"', "strict": "1"}), 422, "unknown-tag"
    )

    assert problem["at"] == 7
    assert problem["pointer"].splitlines()[1] == " " * 7 + "^"
    assert CAT in problem["detail"]


@pytest.mark.parametrize(
    "q", ["after:yesterday", "larger:much", "job:x", "archive:nowhere", "job:99999", "before:2024-13-01"]
)
def test_a_filter_that_names_nothing_is_a_problem_for_programs(client: TestClient, q: str) -> None:
    response = client.get("/v1/search", params={"q": f"cat {q}", "strict": "true"})

    assert response.status_code in {404, 422}
    assert response.json()["at"] >= 4


# The page -------------------------------------------------------------------------------------------------------------


def hrefs(text: str, kind: str) -> list[str]:
    """The links of a class, in their order."""
    return [html.unescape(link) for link in re.findall(rf'<a class="{kind}[^"]*" href="([^"]*)"', text)]


def q_of(link: str) -> str:
    return parse_qs(urlsplit(link).query).get("q", [""])[0]


def test_what_cannot_be_read_is_searched_as_words_and_the_box_keeps_its_text(client: TestClient) -> None:
    page = client.get("/", params={"q": "cat (dog OR", "prefix": "2024/"}, headers=HTML)

    assert page.status_code == 200
    assert 'value="cat (dog OR"' in page.text
    assert "Searched as words: dog OR. OR needs a tag behind it" in page.text
    (without_prefix,) = [link for link in hrefs(page.text, "chip") if "prefix" not in link]
    assert q_of(without_prefix) == 'text:"cat (dog OR"'


def test_a_form_without_scripts_keeps_the_words_as_they_were_typed(client: TestClient) -> None:
    params = {"q": 'a cat (a male OR "Egyptian cab"', "prefix": "", "threshold": ""}
    sent = client.get("/", params=params, headers=HTML, follow_redirects=False)

    assert sent.status_code == 303
    assert parse_qs(urlsplit(sent.headers["location"]).query) == {"q": [params["q"]]}
    assert 'class="notes"' in client.get(sent.headers["location"], headers=HTML).text


def test_a_note_offers_tags_that_may_have_been_meant(client: TestClient) -> None:
    page = client.get("/", params={"q": 'beach "Egyptian cab"'}, headers=HTML)

    assert page.status_code == 200
    notes = page.text.partition('class="notes"')[2].partition("</ul>")[0]
    assert "Searched as words: &#34;Egyptian cab&#34;. Unknown tag &#34;Egyptian cab&#34;." in notes
    assert f">{CAT}</a>" in notes


def test_each_term_has_a_chip_that_drops_it(client: TestClient) -> None:
    q = f'coffee (espresso OR "{CAT}") -hotdog after:2000-01-01'
    page = client.get("/", params={"q": q}, headers=HTML)

    assert page.status_code == 200, page.text
    assert [q_of(link) for link in hrefs(page.text, "chip")] == [
        f'(espresso OR "{CAT}") -hotdog after:2000-01-01',
        "coffee -hotdog after:2000-01-01",
        f'coffee (espresso OR "{CAT}") after:2000-01-01',
        f'coffee (espresso OR "{CAT}") -hotdog',
    ]


def test_a_facet_adds_its_tag_to_the_box_and_takes_it_out_again(client: TestClient) -> None:
    page = client.get("/", params={"q": "coffee"}, headers=HTML)
    add = next(link for link in hrefs(page.text, "facet") if "espresso" in link)
    exclude = next(link for link in hrefs(page.text, "exclude") if "espresso" in link)
    assert (q_of(add), q_of(exclude)) == ("coffee tag:espresso", "coffee -espresso")

    asked = client.get(add, headers=HTML)
    assert "coffee" in {q_of(link) for link in hrefs(asked.text, "facet")}


def test_a_search_in_many_parameters_stays_in_every_link(client: TestClient) -> None:
    page = client.get("/", params={"q": "coffee", "tag": "espresso", "threshold": "0.1"}, headers=HTML)

    without_text = hrefs(page.text, "chip")[0]
    assert without_text == "/?tag=espresso&threshold=0.1"
    assert 'name="tag" value="espresso"' in page.text


def suggestions(client: TestClient, q: str, at: int | None = None) -> list[str]:
    response = client.get("/suggest", params={"q": q, **({} if at is None else {"at": at})})
    assert response.status_code == 200
    return [html.unescape(text) for text in re.findall('data-text="([^"]*)"', response.text)]


def test_the_term_at_the_cursor_is_completed(client: TestClient) -> None:
    assert f'"{CAT}" ' in suggestions(client, "egyptian c")
    assert f'a photo of "{CAT}" ' in suggestions(client, "a photo of egyptian c")
    assert f'beach -"{CAT}" ' in suggestions(client, "beach -egyp")
    assert "(espresso OR espresso)" in suggestions(client, "(espr OR espresso)", at=5)
    assert "tag:espresso " in suggestions(client, "tag:espr")
    assert "score:espresso>" in suggestions(client, "score:espr")
    assert suggestions(client, "count:espr")[0] == "count:espresso>="
    assert suggestions(client, "a day -area:espr")[0] == "a day -area:espresso>"
    assert f'(count:"{CAT}">= OR cat)' in suggestions(client, '(count:"egyptian c OR cat)', at=18)
    assert suggestions(client, "count:espresso")[:3] == ["count:espresso>=", "count:espresso=", "count:espresso<="]
    assert suggestions(client, "area:ESPRESSO")[:2] == ["area:espresso>", "area:espresso<"]
    assert suggestions(client, "count:espresso>=") == suggestions(client, "area:espresso<2") == []
    assert suggestions(client, "coun") == ["count:"]
    assert "archive:" in suggestions(client, "arch")
    assert any(q.startswith("archive:file:///") for q in suggestions(client, "archive:photog"))
    assert suggestions(client, "") == suggestions(client, "cat ") == suggestions(client, '"espresso"') == []
    assert suggestions(client, "x" * 50) == []


def test_tags_that_images_have_are_offered_first(client: TestClient) -> None:
    options = client.get("/suggest", params={"q": "tag:cat"}).text
    labels = re.findall(r'role="option"[^>]*><span>([^<]+?)\s*<', options)
    assert labels[0] == "cat"
    assert labels.index(CAT) < labels.index("catamaran")
    assert client.get("/suggest", params={"q": "x" * 3_000}).status_code == 200


def test_completions_say_how_many_images_there_are(client: TestClient) -> None:
    text = client.get("/suggest", params={"q": "tag:espresso"}).text

    assert 'role="option"' in text
    assert '<span class="figure">1<span class="sr"> image</span></span>' in text
