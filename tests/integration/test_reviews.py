"""What people say of a data set's decisions: counted, stored as corrections, and never lost between two of them."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from storage.datasets.review_views import PersonTally, Tally
from storage.errors import NotFoundError, UsageError
from storage.results.tags import UnknownTagError
from tests.services.command_line import run_here
from tests.services.decided import Label, add_version
from tests.services.recognised import CAT
from tests.services.web import assert_problem, services_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import CompletedProcess

    from sqlalchemy import Engine
    from starlette.testclient import TestClient

    from ramq.wiring import Services

pytestmark = pytest.mark.services

DOG = "golden retriever"


@pytest.fixture
def services(client: TestClient) -> Services:
    return services_of(client)


@pytest.fixture
def ids(services: Services) -> list[int]:
    """Pictures, of which the first six lost their tag, the next two were given it, and the others kept it."""
    ids = [image_id for image_id in range(1, 200) if _is_there(services, image_id)][:12]
    dropped = [
        Label(image_id, CAT, ("outlier", "contradicted", "no_region")[n % 3], certainty)
        for n, (image_id, certainty) in enumerate(zip(ids[:6], (0.9, 0.3, None, 0.3, 0.7, 0.5), strict=True))
    ]
    added = [Label(image_id, CAT, None, 0.6, origins=("generated",)) for image_id in ids[6:8]]
    kept = [Label(image_id, CAT, None, 0.1 * n, (0.1, 0.2, 0.6, 0.7)) for n, image_id in enumerate(ids[8:])]
    other = [Label(ids[0], DOG, "removed"), Label(ids[1], DOG, "outlier", 0.2)]
    add_version(services, "pets", [*dropped, *added, *kept, *other])
    return ids


def _is_there(services: Services, image_id: int) -> bool:
    try:
        return services.images.get(image_id).generation_id is not None
    except NotFoundError:
        return False


def corrections_of(services: Services, image_id: int) -> dict[str, bool]:
    return {one.name: one.is_present for one in services.images.get(image_id).corrections}


def waiting(services: Services, what: str = "dropped") -> list[int]:
    return [one.image_id for one in services.reviews.waiting("pets", CAT, what, limit=100).items]  # type: ignore[arg-type]


def test_the_least_certain_decision_comes_first_and_typical_pictures_are_the_surest(
    services: Services, ids: list[int]
) -> None:
    assert waiting(services) == [ids[2], ids[1], ids[3], ids[5], ids[4], ids[0]]
    assert waiting(services, "added") == ids[6:8]
    shown = services.reviews.typical("pets", CAT)
    assert [one.image_id for one in shown] == ids[:7:-1]
    assert shown[0].box == (0.1, 0.2, 0.6, 0.7)
    # What people removed waits for nobody.
    assert [one.image_id for one in services.reviews.waiting("pets", DOG).items] == [ids[1]]


@pytest.mark.parametrize(
    ("what", "is_right", "is_present"),
    [("dropped", True, False), ("dropped", False, True), ("added", True, True), ("added", False, False)],
)
def test_an_answer_is_a_correction_and_taking_it_back_leaves_none(
    services: Services, ids: list[int], what: str, is_right: bool, is_present: bool
) -> None:
    image_id = ids[0] if what == "dropped" else ids[6]
    said = services.reviews.say("pets", CAT, [image_id], is_right=is_right, by="ann")
    assert (said.image_ids, said.others) == ([image_id], [])
    assert corrections_of(services, image_id) == {CAT.lower(): is_present}
    assert services.images.get(image_id).corrections[0].said_by == "ann"
    assert image_id not in waiting(services, what)

    services.reviews.say("pets", CAT, [image_id], is_right=None, by="ann")
    assert corrections_of(services, image_id) == {}
    assert image_id in waiting(services, what)


def test_progress_and_agreement_are_counted_by_tag_by_kind_and_by_person(services: Services, ids: list[int]) -> None:
    services.reviews.say("pets", CAT, ids[:3], is_right=True, by="ann")
    services.reviews.say("pets", CAT, ids[3:4], is_right=False, by="ben")
    services.reviews.say("pets", CAT, ids[6:7], is_right=True, by="ben")

    review = services.reviews.progress("pets")

    assert (review.dropped, review.added) == (Tally(3, 4, 3), Tally(1, 1, 1))
    assert review.dropped.agreement == 0.75
    assert [(tag.name, tag.dropped, tag.added) for tag in review.tags] == [
        (CAT, Tally(2, 4, 3), Tally(1, 1, 1)),
        (DOG, Tally(1, 0, 0), Tally()),
    ]
    assert review.tags[1].dropped.agreement is None
    assert review.people == [PersonTally("ann", 3, 3), PersonTally("ben", 2, 1)]


@pytest.mark.usefixtures("ids")
def test_pages_have_each_decision_once_though_others_are_answered_between_them(services: Services) -> None:
    everything = waiting(services)
    first = services.reviews.waiting("pets", CAT, limit=2)
    services.reviews.say("pets", CAT, everything[:1], is_right=True)
    second = services.reviews.waiting("pets", CAT, limit=2, cursor=first.next_cursor)
    services.reviews.say("pets", CAT, [everything[3]], is_right=False)
    third = services.reviews.waiting("pets", CAT, limit=2, cursor=second.next_cursor)
    seen = [one.image_id for page in (first, second, third) for one in page.items]
    assert (seen, third.next_cursor) == (everything, None)
    with pytest.raises(UsageError, match="cursor"):
        services.reviews.waiting("pets", DOG, cursor=first.next_cursor)
    with pytest.raises(UsageError, match="cursor"):
        services.reviews.waiting("pets", CAT, "added", cursor=first.next_cursor)


def test_of_two_people_at_once_one_answers_and_the_other_sees_it(services: Services, ids: list[int]) -> None:
    start = Barrier(2)

    def answer(by: str) -> tuple[list[int], set[str]]:
        chosen = ids[:6] if by == "ann" else ids[5::-1]
        start.wait()
        said = services.reviews.say("pets", CAT, chosen, is_right=by == "ann", by=by)
        return said.image_ids, {one.said_by for one in said.others}

    with ThreadPoolExecutor(2) as both:
        ann, ben = both.map(answer, ("ann", "ben"))

    winner, loser, name = (ann, ben, "ann") if ann[0] else (ben, ann, "ben")
    assert (winner, loser) == ((ids[:6], set()), ([], {name}))
    for image_id in ids[:6]:
        assert corrections_of(services, image_id) == {CAT.lower(): name == "ben"}
    assert services.reviews.progress("pets").people == [PersonTally(name, 6, 6 if name == "ann" else 0)]


def test_nobody_takes_back_the_answers_of_others_nor_other_corrections(services: Services, ids: list[int]) -> None:
    services.corrections.tag([ids[1]], remove=[CAT], by="zoe")
    services.reviews.say("pets", CAT, ids[:2], is_right=True, by="ann")
    said = services.reviews.say("pets", CAT, ids[:2], is_right=None, by="ben")
    assert (said.image_ids, [one.said_by for one in said.others]) == ([], ["ann", "ann"])

    said = services.reviews.say("pets", CAT, ids[:2], is_right=None, by="ann")
    assert (said.image_ids, said.others) == (ids[:2], [])
    assert corrections_of(services, ids[0]) == {}
    assert corrections_of(services, ids[1]) == {CAT.lower(): False}


def test_the_last_answer_of_a_person_is_all_that_was_said_in_one_go(services: Services, ids: list[int]) -> None:
    assert services.reviews.last("pets", "ann") is None
    services.reviews.say("pets", CAT, ids[:2], is_right=True, by="ann")
    services.reviews.say("pets", CAT, ids[2:4], is_right=False, by="ann")
    services.reviews.say("pets", CAT, ids[4:6], is_right=True, by="ben")
    last = services.reviews.last("pets", "ann")
    assert last is not None
    assert (last.tag, last.image_ids, last.is_right, last.was_dropped) == (CAT, ids[2:4], False, True)


def test_a_later_version_asks_again_only_where_it_decided_otherwise(services: Services, ids: list[int]) -> None:
    services.reviews.say("pets", CAT, [ids[0], ids[6], ids[7]], is_right=True)
    add_version(
        services,
        "pets",
        [
            Label(ids[0], CAT, "outlier", 0.9),
            Label(ids[6], CAT, "outlier", 0.9),
            Label(ids[7], CAT, None, 0.6, origins=("generated",)),
        ],
    )
    assert (waiting(services), waiting(services, "added")) == ([ids[6]], [])
    said = services.reviews.say("pets", CAT, [ids[6]], is_right=True)
    assert said.image_ids == [ids[6]]
    assert corrections_of(services, ids[6]) == {CAT.lower(): False}
    assert len(services.reviews.waiting("pets@1", CAT).items) == 5


def test_what_was_not_decided_cannot_be_answered(services: Services, ids: list[int]) -> None:
    with pytest.raises(NotFoundError, match=f"neither dropped nor added '{CAT}' in image {ids[8]}"):
        services.reviews.say("pets", CAT, [ids[0], ids[8]], is_right=True)
    assert corrections_of(services, ids[0]) == {}
    with pytest.raises(NotFoundError, match="no image 999999"):
        services.reviews.say("pets", CAT, [999999], is_right=True)
    with pytest.raises(UsageError, match="no picture is chosen"):
        services.reviews.say("pets", CAT, [], is_right=True)
    with pytest.raises(UsageError, match="at most 500"):
        services.reviews.say("pets", CAT, range(1, 502), is_right=True)
    with pytest.raises(UnknownTagError, match="Egyptian cat"):
        services.reviews.waiting("pets", "egyptian ca")
    with pytest.raises(NotFoundError, match="no data set 'cars'"):
        services.reviews.progress("cars")


def test_a_tag_whose_name_another_has_too_is_given_by_its_id(services: Services) -> None:
    image_id = services.images.find("chelsea.png")
    add_version(services, "birds", [Label(image_id, "134", "outlier"), Label(image_id, "517", "outlier")])
    with pytest.raises(UsageError, match="several tags are called 'crane'"):
        services.reviews.waiting("birds", "crane")
    assert len(services.reviews.waiting("birds", "134").items) == 1


def test_the_api_tells_and_takes_what_the_service_does(client: TestClient, services: Services, ids: list[int]) -> None:
    told = client.get("/v1/datasets/pets/review").json()
    assert (told["name"], told["version"], told["dropped"]["waiting"]) == ("pets", 1, 7)
    page = client.get(f"/v1/datasets/pets@1/review/tags/{CAT}", params={"limit": 1}).json()
    assert [(one["image_id"], one["reason"], one["certainty"]) for one in page["items"]] == [
        (ids[2], "no_region", None)
    ]
    assert [one["image_id"] for one in page["typical"]] == ids[:7:-1]
    more = client.get(f"/v1/datasets/pets/review/tags/{CAT}", params={"limit": 1, "cursor": page["next_cursor"]})
    assert more.json()["items"][0]["image_id"] == ids[1]

    body = {"image_ids": ids[:2], "is_right": False}
    said = client.post(f"/v1/datasets/pets/review/tags/{CAT}", json=body).json()
    assert said == {"tag_id": said["tag_id"], "tag": CAT, "image_ids": ids[:2], "others": []}
    again = client.post(f"/v1/datasets/pets/review/tags/{said['tag_id']}", json=body).json()
    assert [(one["image_id"], one["is_right"], one["said_by"]) for one in again["others"]] == [
        (ids[0], False, "local"),
        (ids[1], False, "local"),
    ]
    assert corrections_of(services, ids[0]) == {CAT.lower(): True}
    for wrong in ({"is_right": "yes"}, {"is_right": 1}, {"image_ids": [278.0]}, {"image_ids": ["1"]}):
        answer = client.post(f"/v1/datasets/pets/review/tags/{CAT}", json=body | wrong)
        assert_problem(answer, 422, "invalid-request")
    assert_problem(client.get("/v1/datasets/cars/review"), 404, "not-found")
    assert_problem(
        client.post(f"/v1/datasets/pets/review/tags/{CAT}", json={"image_ids": [], "is_right": True}),
        422,
        "invalid-request",
    )


def test_a_crop_is_the_region_that_was_decided_on_or_the_whole_picture(
    client: TestClient, services: Services, ids: list[int]
) -> None:
    def size(image_id: int) -> tuple[int, int]:
        answer = client.get(f"/v1/datasets/pets/review/images/{image_id}/crop/{CAT}?side=128")
        assert answer.headers["content-type"] == "image/jpeg"
        return Image.open(io.BytesIO(answer.content)).size

    whole = services.images.get(ids[0])
    assert whole.width
    assert whole.height
    assert size(ids[0])[0] / size(ids[0])[1] == pytest.approx(whole.width / whole.height, abs=0.05)
    part = services.images.get(ids[8])
    assert part.width
    assert part.height
    assert size(ids[8])[0] / size(ids[8])[1] == pytest.approx(part.width / part.height, abs=0.05)
    assert_problem(client.get(f"/v1/datasets/pets/review/images/{ids[8]}/crop/{DOG}"), 404, "not-found")


def test_readers_may_look_and_writers_may_answer(make_client: Callable[..., TestClient], ids: list[int]) -> None:
    guarded = make_client(api_tokens=("eye:read:r-secret", "hand:write:w-secret"))
    address = f"/v1/datasets/pets/review/tags/{CAT}"
    body = {"image_ids": ids[:1], "is_right": True}
    for secret, status in (("r-secret", 403), ("w-secret", 200)):
        headers = {"authorization": f"Bearer {secret}"}
        assert guarded.get(address, headers=headers).status_code == 200
        assert guarded.post(address, json=body, headers=headers).status_code == status
    people = guarded.get("/v1/datasets/pets/review", headers={"authorization": "Bearer r-secret"}).json()["people"]
    assert people == [{"said_by": "hand", "reviewed": 1, "right": 1}]


def test_the_command_lists_what_waits_and_takes_answers(
    services: Services, ids: list[int], recognised_engine: Engine, tmp_path: Path
) -> None:
    environment = {
        "RAMQ_USER": "ann",
        "RAMQ_DATABASE_URL": recognised_engine.url.render_as_string(hide_password=False),
        "RAMQ_DATA_DIR": str(tmp_path / "data"),
    }

    def run(*words: str) -> CompletedProcess[str]:
        return run_here(("dataset", "review", *words), environment)

    shown = run("pets")
    assert shown.returncode == 0, shown.stderr
    assert CAT in shown.stdout
    assert "Dropped: 7 to review, 0 reviewed." in shown.stderr
    waiting = json.loads(run("pets", CAT, "--json").stdout)["items"]
    assert [one["image_id"] for one in waiting] == [ids[2], ids[1], ids[3], ids[5], ids[4], ids[0]]
    assert len(json.loads(run("pets", CAT, "--added", "--json").stdout)["items"]) == 2

    key = services.images.get(ids[2]).key
    done = run("pets", CAT, "--reject", key, "--reject", str(ids[1]))
    assert (done.returncode, done.stderr) == (0, f"2 images of {CAT} rejected.\n")
    assert corrections_of(services, ids[2]) == {CAT.lower(): True}
    again = run("pets", CAT, "--confirm", str(ids[1]))
    assert f"Image {ids[1]} was rejected before by ann; that stays." in again.stderr
    assert "0% of these right" in run("pets").stderr
    assert json.loads(run("pets", CAT, "--undo", str(ids[1]), "--json").stdout)["image_ids"] == [ids[1]]
    assert run("pets", "--confirm", str(ids[0])).returncode == 2
    refused = run("pets", CAT, "--added", "--confirm", str(ids[0]))
    assert (refused.returncode, "leave out --added" in refused.stderr) == (2, True)
    first = run("pets", CAT, "--limit", "2", "--json")
    cursor = json.loads(first.stdout)["next_cursor"]
    assert f"--cursor {cursor}" in run("pets", CAT, "--limit", "2").stderr
    rest = json.loads(run("pets", CAT, "--cursor", cursor, "--json").stdout)["items"]
    assert [one["image_id"] for one in rest] == [ids[5], ids[4], ids[0]]
    assert run("pets", CAT, "--confirm", str(ids[0]), "--reject", str(ids[1])).returncode == 2


@pytest.mark.parametrize(
    "address",
    [
        "/datasets/a%00b",
        "/datasets/a%00b/review",
        "/datasets/pets/review?tag=a%00b",
        "/datasets/pets/review?tag=cat&cursor=a%00b",
        f"/datasets/pets/review?tag={'a' * 2_001}",
        "/v1/datasets/a%00b/review",
        "/v1/datasets/a%00b/review/tags/cat",
        "/v1/datasets/a%00b/review/images/1/crop/cat",
    ],
)
@pytest.mark.usefixtures("ids")
def test_names_that_cannot_be_stored_are_refused_in_words(client: TestClient, address: str) -> None:
    answer = client.get(address, headers={"accept": "text/html"})
    assert answer.status_code == 422, answer.text
