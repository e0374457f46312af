"""Keys as people type them: in either Unicode form, beside near ones, too long, or of nothing at all."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from ramq.services.jobs import ClientOptions, JobClient
from storage.database import unit_of_work
from storage.datasets import matching
from storage.datasets.sources import Place
from storage.errors import NotFoundError, UsageError
from storage.index.condition import Any, Below
from storage.objects.base import MAX_KEY_BYTES, BadKeyError, S3Options
from storage.objects.s3_listing import info_of
from storage.objects.source import open_store, parse_source
from storage.results import archives, lookup
from storage.search import fields
from storage.texts import other_forms
from tests.plan import Plan

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

    from tests.services.s3 import S3Server

pytestmark = pytest.mark.services

NFC, NFD = "caf\u00e9", "cafe\u0301"
KEYS = (
    f"{NFD}/a.jpg", f"{NFD}/m\u00fc.jpg", "Album/b.jpg", "plain/c.jpg", f"both/{NFC}.jpg", f"both/{NFD}.jpg",
    f"odd/x{NFC}-{NFD}.jpg", "ctl/\x1b[31mred\x07.jpg",
)  # fmt: skip


@pytest.fixture
def plan(engine: Engine) -> Plan:
    plan = Plan(engine, "s3://photos")
    plan.ledger.execute(
        """INSERT INTO image (archive_id, key, version, size) SELECT :id, key, 'v', 1
           FROM unnest(CAST(:keys AS text[])) AS key""",
        id=plan.ledger.archive.id,
        keys=list(KEYS),
    )
    return plan


def key_of(plan: Plan, name: str) -> str:
    with unit_of_work(plan.engine) as session:
        [image_id] = lookup.resolve_all(session, [name], None)
        assert image_id == lookup.resolve(session, name, None)
        return str(session.scalar(text("SELECT key FROM image WHERE id = :id"), {"id": image_id}))


def below(plan: Plan, *prefixes: str) -> set[str]:
    with unit_of_work(plan.engine) as session:
        ids = lookup.ids_below(session, None, *prefixes)
        return set(session.scalars(text("SELECT key FROM image WHERE id = ANY(:ids)"), {"ids": ids}))


def test_the_other_forms_of_a_key_are_those_of_each_part() -> None:
    assert other_forms("plain/a.jpg") == []
    assert other_forms(NFC) == [NFD]
    assert set(other_forms(f"{NFC}/{NFC}")) == {f"{NFC}/{NFD}", f"{NFD}/{NFC}", f"{NFD}/{NFD}"}
    long = "/".join([NFC] * 9)
    assert other_forms(long) == [unicodedata.normalize("NFD", long)]


@pytest.mark.parametrize("name", [f"{NFC}/a.jpg", f"{NFD}/a.jpg", f"s3://photos/{NFC}/a.jpg"])
def test_a_name_finds_its_image_in_either_form(plan: Plan, name: str) -> None:
    assert key_of(plan, name) == f"{NFD}/a.jpg"


def test_each_folder_of_a_name_may_have_its_own_form(plan: Plan) -> None:
    assert key_of(plan, f"{NFC}/mu\u0308.jpg") == f"{NFD}/m\u00fc.jpg"


def test_of_two_images_that_look_the_same_the_exact_one_is_meant(plan: Plan) -> None:
    for form in (NFC, NFD):
        assert key_of(plan, f"both/{form}.jpg") == f"both/{form}.jpg"
        assert below(plan, f"both/{form}") == {f"both/{form}.jpg"}


def test_what_may_mean_several_is_said_to(plan: Plan) -> None:
    plan.ledger.execute(
        "INSERT INTO image (archive_id, key, version, size) VALUES (:id, :one, 'v', 1), (:id, :two, 'v', 1)",
        id=plan.ledger.archive.id,
        one=f"{NFC}/{NFD}/z.jpg",
        two=f"{NFD}/{NFC}/z.jpg",
    )
    with pytest.raises(UsageError, match="different Unicode forms: give one of the ids"):
        key_of(plan, f"{NFC}/{NFC}/z.jpg")
    with pytest.raises(UsageError, match="Unicode forms that look the same"):
        below(plan, f"{NFC}/{NFC}/")


def test_a_prefix_finds_its_keys_in_either_form(plan: Plan) -> None:
    for form in (NFC, NFD):
        assert below(plan, f"{form}/") == {f"{NFD}/a.jpg", f"{NFD}/m\u00fc.jpg"}


def test_names_in_files_for_data_sets_are_found_in_either_form(plan: Plan) -> None:
    place = Place(plan.ledger.archive.id, "", "s3://photos")
    with unit_of_work(plan.engine) as session:
        found = matching.match(session, [place], [f"{NFC}/a.jpg", f"{NFC}/a", f"s3://photos/{NFC}/a.jpg", "none"])
    assert len(found) == 3
    assert len(set(found.values())) == 1


def test_what_matches_nothing_is_said_with_what_is_near(plan: Plan) -> None:
    with unit_of_work(plan.engine) as session:
        for prefix, near in (("album/", "Album/b.jpg"), ("plain/d", "plain/c.jpg"), ("/plain", "plain/c.jpg")):
            with pytest.raises(NotFoundError, match=f"no key begins with '{prefix}'; near it: '{near}'"):
                lookup.require_below(session, plan.ledger.archive.id, prefix)
        with pytest.raises(NotFoundError, match=r"no key begins with 'zzz'$"):
            lookup.require_below(session, None, "zzz")
        with pytest.raises(NotFoundError, match=r"there is no image 'plain/C.jpg'.*near it: 'plain/c.jpg'"):
            lookup.find(session, "plain/C.jpg", None)
        with pytest.raises(NotFoundError) as caught:
            lookup.require_below(session, None, "ctl/\x1b[31mred\x07.jpgx")
    assert str(caught.value).isprintable()


def test_an_archive_is_found_in_either_form(engine: Engine) -> None:
    with unit_of_work(engine) as session:
        archive, _ = archives.ensure(session, parse_source(f"s3://photos/{NFD}"))
        assert archives.resolve(session, f"s3://photos/{NFC}") == (archive.id, "")
        assert archives.resolve(session, f"s3://photos/{NFC}/x") == (archive.id, f"{NFD}/x/")


def client(engine: Engine, endpoint: str | None = None) -> JobClient:
    return JobClient(engine, ClientOptions("lite", "none", (), False, S3Options(endpoint)))


def test_a_list_of_keys_finds_files_in_either_form(engine: Engine, tmp_path: Path) -> None:
    names = [f"{NFD}/a.jpg", f"{NFD}/m\u00fc.jpg", "b.jpg"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    plan = Plan(engine, "s3://unrelated")
    (tmp_path / "list.txt").write_text(
        "\n".join([f"{NFC}/a.jpg", f"{NFC}/mu\u0308.jpg", "b.jpg", f"{NFD}/a.jpg", NFC + "?"])
    )
    client(engine).create(str(tmp_path / "list.txt"))
    plan.go_through()
    assert sorted(plan.waiting()) == sorted([*names, NFC + "?"])
    assert plan.ledger.scalar("SELECT array_agg(key) FROM image WHERE version = '!missing'") == [NFC + "?"]


def test_a_list_of_keys_finds_objects_in_either_form(
    engine: Engine, s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    s3_server.put(bucket, {f"{NFD}/a.jpg": b"x", "b.jpg": b"x"})
    (tmp_path / "list.txt").write_text(f"s3://{bucket}/{NFC}/a.jpg\ns3://{bucket}/b.jpg\ns3://{bucket}/{NFC}/z.jpg\n")
    plan = Plan(engine, "s3://unrelated")
    client(engine, s3_server.endpoint_url).create(str(tmp_path / "list.txt"))
    plan.go_through(plan.another(s3_endpoint_url=s3_server.endpoint_url))
    assert plan.waiting() == ["b.jpg", f"{NFD}/a.jpg", f"{NFC}/z.jpg"]


def test_a_folder_to_list_is_found_in_either_form(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / NFD).mkdir()
    assert client(engine).create(str(tmp_path / NFC)).archive == f"file://{tmp_path}/{NFD}"


def test_a_key_that_is_too_long_is_counted_once_and_fails_with_the_reason(engine: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    deep = folder
    for _ in range(10):
        deep /= "x" * 220
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"x")
    deep.mkdir(parents=True)
    (deep / "b.jpg").write_bytes(b"x")
    plan = Plan(engine, str(folder))
    view = plan.run()
    assert view.listed == 2
    key, version = plan.ledger.scalar("SELECT ARRAY[key, version] FROM image WHERE key <> 'a.jpg'")
    assert len(key.encode()) == MAX_KEY_BYTES
    with pytest.raises(BadKeyError, match="the key is too long, over 2,000 bytes"):
        open_store(parse_source(str(folder)), S3Options()).fetch(key, version, 10)
    plan.work()
    assert plan.run().listed == 2


def test_a_key_of_a_bucket_that_is_too_long_does_not_stop_the_listing(engine: Engine) -> None:
    info = info_of({"Key": "k" * 4_000, "Size": 1, "LastModified": None, "ETag": "e"})
    assert len(info.key) == MAX_KEY_BYTES
    with pytest.raises(BadKeyError, match="too long, over 2,000 bytes"):
        open_store(parse_source("s3://bucket"), S3Options("http://127.0.0.1:9")).fetch(info.key, info.version, 10)


def test_a_search_below_a_prefix_takes_every_form() -> None:
    assert fields.below("plain/") == Below("plain/")
    assert fields.below(NFC) == Any((Below(NFC), Below(NFD)))
