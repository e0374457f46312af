"""Whoever has segments sees with a shadow whether Milvus would answer the same, and how fast."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from storage.search.views import SearchQuery
from tests.services.milvus import milvus_server as run_milvus_server
from tests.services.web import services_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.testclient import TestClient

    from tests.services.milvus import MilvusServer

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def milvus_server() -> Iterator[MilvusServer]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, run_milvus_server(Path(folder)) as server:
        yield server


@pytest.fixture(params=["lite", "server"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty database of Milvus."""
    if request.param == "lite":
        yield (tmp_path / "milvus.db").as_uri().replace("file:", "milvus+file:")
        return
    server = request.getfixturevalue("milvus_server")
    with server.database() as milvus:
        yield server.url(milvus._options["db_name"])


def test_a_shadow_in_milvus_answers_as_segments_do_and_forgets_what_is_deleted(
    make_client: Callable[..., TestClient], url: str
) -> None:
    services = services_of(make_client(shadow_index_url=url, shadow_index_share=1.0))
    services.shadow.build()
    (view,) = services.shadow.status()
    assert view.vectors_indexed == view.vectors_stored > 0
    assert services.shadow.verify() == {view.generation_id: []}
    comparer = services.shadow.comparer
    image_id = services.search.page(SearchQuery()).items[0].image_id
    for query in (SearchQuery(tags=("cat",)), SearchQuery(like=image_id), SearchQuery(not_tags=("cat",))):
        comparer.take(query, [], time.monotonic())
    assert comparer.tally.outcomes == {"same": 3}
    assert comparer.tally.summary().kinds["image"]["score_difference"] < 1e-5
    assert services.index.status()[0].segments == 0, "the index itself was not built"
    victim = services.images.find("coffee.png")
    deletion = services.erasures.delete([victim])
    before = services.erasures.verify(deletion.deletion_id)
    assert [trace.left for trace in before.traces if trace.place.startswith("shadow, collection")] == [1]
    services.shadow.build()
    assert services.erasures.verify(deletion.deletion_id).is_clean
    assert services.shadow.drop() == 1
    comparer.take(SearchQuery(), [], time.monotonic())
    assert comparer.tally.outcomes == {"same": 3, "unready": 1}
