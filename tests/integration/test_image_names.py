"""Images and archives by what people type: numbers, keys, URIs, the last word of a URI, and texts that are none."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import event

from ramq.settings import Settings
from ramq.wiring import Services
from storage.database import unit_of_work
from storage.errors import NotFoundError, UsageError
from storage.objects.source import parse_source
from storage.results import archives, images, lookup
from tests.ledger import listed

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

pytestmark = pytest.mark.services


def fill(engine: Engine, source: str, *keys: str) -> dict[str, int]:
    """Register an archive, and return the ids of its images by key."""
    with unit_of_work(engine) as session:
        archive, _ = archives.ensure(session, parse_source(source))
        images.upsert_page(session, archive.id, listed(*keys))
        return dict(zip(sorted(keys), images.ids_of_page(session, archive.id), strict=True))


@pytest.fixture
def services(engine: Engine, tmp_path: Path) -> Services:
    return Services(Settings(data_dir=tmp_path), engine, None, is_reachable=False)


@pytest.mark.parametrize(
    ("source", "key", "uri"),
    [
        ("/photos", "2024/a.jpg", "file:///photos/2024/a.jpg"),
        ("/photos", "100%25 #1?.jpg", "file:///photos/100%25 #1?.jpg"),
        ("/odd%", "a b.jpg", "file:///odd%25/a b.jpg"),
        ("/", "photos/a.jpg", "file:///photos/a.jpg"),
        ("s3://photos", "a.jpg", "s3://photos/a.jpg"),
        ("s3://photos/2024", "2024/a.jpg", "s3://photos/2024/a.jpg"),
        ("s3://photos/one", "one", "s3://photos/one"),
    ],
)
def test_an_image_is_found_by_its_number_its_key_and_the_uri_that_is_shown(
    services: Services, engine: Engine, source: str, key: str, uri: str
) -> None:
    [image_id] = fill(engine, source, key).values()
    assert services.images.get(image_id).uri == uri
    for text in (str(image_id), key, uri):
        assert services.images.find(text) == image_id


def test_a_uri_names_one_image_although_many_archives_have_its_key(services: Services, engine: Engine) -> None:
    for number in range(12):
        fill(engine, f"/others/{number}", "a.jpg")
    wanted = fill(engine, "/photos", "a.jpg")["a.jpg"]
    assert services.images.find("file:///photos/a.jpg") == wanted
    with pytest.raises(UsageError, match="key in several archives"):
        services.images.find("a.jpg")
    for unknown in ("file:///photos/b.jpg", "file:///photo/a.jpg", "file:///photosa.jpg", "file:///photos", "://"):
        with pytest.raises(NotFoundError, match="its key or its URI"):
            services.images.find(unknown)


def test_keys_are_looked_for_in_every_archive_that_a_word_means(services: Services, engine: Engine) -> None:
    ours = fill(engine, "/srv/photos", "a.jpg", "both.jpg")
    theirs = fill(engine, "s3://theirs/photos", "photos/b.jpg", "both.jpg")
    fill(engine, "/elsewhere", "a.jpg", "c.jpg")
    assert services.images.find("a.jpg", "photos") == ours["a.jpg"]
    assert services.images.find("s3://theirs/photos/b.jpg", "photos") == theirs["photos/b.jpg"]
    assert services.images.find("both.jpg", "/srv/photos") == ours["both.jpg"]
    with pytest.raises(UsageError, match="key in several archives"):
        services.images.find("both.jpg", "photos")
    with pytest.raises(NotFoundError, match="no image"):
        services.images.find("c.jpg", "photos")
    with unit_of_work(engine) as session:
        archive_id, _ = archives.resolve(session, "s3://theirs/photos")
        assert lookup.resolve(session, "both.jpg", archive_id) == theirs["both.jpg"]


def test_what_is_no_text_of_unicode_is_no_image_and_the_prefix_of_none(services: Services, engine: Engine) -> None:
    fill(engine, "/photos", "a.jpg")
    for text in ("\udce9.jpg", "a\0", "file:///photos/\udce9.jpg", "9" * 5000):
        with pytest.raises(NotFoundError, match="no image"):
            services.images.find(text)
        with pytest.raises(UsageError):
            services.images.find("a.jpg", text)
        with unit_of_work(engine) as session:
            assert lookup.ids_below(session, None, "", text) == []


def test_a_number_is_the_last_word_of_an_archive_where_no_archive_has_it_as_its_id(engine: Engine) -> None:
    fill(engine, "/photos/2024")
    fill(engine, "s3://photos/2024")
    fill(engine, "/photos/1")
    with unit_of_work(engine) as session:
        first, second, _ = archives.ids(session)
        assert archives.resolve_all(session, "2024") == [(first, ""), (second, "")]
        assert archives.resolve_all(session, str(first)) == [(first, "")]
        for unknown in ("2025", "9" * 5000):
            with pytest.raises(NotFoundError, match="known archives: file:///photos/2024"):
                archives.resolve_all(session, unknown)
            with pytest.raises(NotFoundError, match="known archives: file:///photos/2024"):
                archives.resolve(session, unknown)


def test_many_names_are_looked_up_with_a_few_statements(services: Services, engine: Engine) -> None:
    ours = fill(engine, "/srv/photos", *(f"{n}.jpg" for n in range(50)))
    theirs = fill(engine, "s3://theirs/photos", "photos/b.jpg", "1.jpg")
    texts = [str(theirs["photos/b.jpg"]), "s3://theirs/photos/b.jpg", *(f"{n}.jpg" for n in range(2, 50)), "2.jpg"]
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *call: statements.append(call[2]))
    found = services.images.find_all(texts)
    assert found == [*[theirs["photos/b.jpg"]] * 2, *(ours[f"{n}.jpg"] for n in range(2, 50)), ours["2.jpg"]]
    assert len([one for one in statements if "FROM" in one]) <= 4
    assert services.images.find_all(["1.jpg"], "/srv/photos") == [ours["1.jpg"]]
    for name in ("1.jpg", "nowhere.jpg", "999999", "a\0"):
        with pytest.raises((NotFoundError, UsageError)) as one:
            services.images.find(name)
        with pytest.raises(type(one.value), match=re.escape(str(one.value))):
            services.images.find_all(["2.jpg", name])
