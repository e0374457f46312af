"""Images whose original is gone: marked among the hits, and a filter leaves them out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from storage.database import unit_of_work
from tests.services.recognised import CAT
from tests.services.web import services_of

if TYPE_CHECKING:
    from starlette.testclient import TestClient

pytestmark = pytest.mark.services


def found(client: TestClient, q: str) -> dict[str, bool]:
    answer = client.get("/v1/search", params={"q": q, "limit": 500})
    assert answer.status_code == 200
    assert answer.json()["notes"] == []
    return {item["key"]: item["missing"] for item in answer.json()["items"]}


def test_hits_say_whether_the_original_is_missing_and_a_filter_leaves_them_out(client: TestClient) -> None:
    everything = set(found(client, ""))
    with unit_of_work(services_of(client).engine) as session:
        session.execute(text("UPDATE image SET missing_since = now() WHERE key = 'chelsea.png'"))

    assert found(client, f'"{CAT}"') == {"chelsea.png": True}
    assert found(client, "missing:yes") == {"chelsea.png": True}
    assert found(client, "missing:no") == dict.fromkeys(everything - {"chelsea.png"}, False)
    assert found(client, f'"{CAT}" missing:no') == {}
    page = client.get("/", params={"q": f'"{CAT}"'}, headers={"accept": "text/html"}).text
    assert page.count("Original missing") == 1
    assert page.count('class="no-original" role="img"') == 1
    assert "/thumbnail" not in page
    [hit] = client.get("/v1/search", params={"q": "missing:yes"}).json()["items"]
    image = client.get(f"/images/{hit['image_id']}", headers={"accept": "text/html"}).text
    assert "its file is missing" in image
    assert f"/v1/images/{hit['image_id']}/thumbnail" not in image
    refused = client.get("/v1/search", params={"q": "missing:maybe", "strict": True})
    assert (refused.status_code, "takes yes or no" in refused.text) == (422, True)
