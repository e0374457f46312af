"""Two who teach at once, and files of features that are damaged or lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from ramq.services import teaching
from ramq.services.index import make_builder
from ramq.services.taught_vocabulary import head_row
from storage.database import unit_of_work
from storage.errors import UsageError
from storage.results import vocabularies
from tests.services.recognised import recognise
from tests.services.taught import ids_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ramq.wiring import Services
    from storage.results.teachings import HeadRow

    Make = Callable[..., Services]

pytestmark = pytest.mark.services


def test_two_who_teach_at_once_get_vocabularies_of_two_names(
    make_services: Make, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = make_services()
    recognise(services, str(folder))
    tools = ids_of(services, "tool")
    ready = Barrier(2)

    def meeting(*given: Any) -> HeadRow:
        ready.wait(300)  # both have learnt, and neither has stored anything
        return head_row(*given)

    monkeypatch.setattr(teaching, "head_row", meeting)
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda name: services.teaching.apply(name, tools[:5]), ["saw mill", "wrench kit"]))
    assert {one.vocabulary for one in both} == {"imagenet-taught-1", "imagenet-taught-2"}
    first, second = sorted(both, key=lambda one: str(one.vocabulary))
    assert first.warnings == []
    [told] = second.warnings
    assert told.startswith(f"{first.reports[0].tag} was taught in imagenet-taught-1, which is not in use")

    # What is erased taught nothing.
    assert [tag.yes for tag in services.teaching.taught()] == [5, 5]
    report = services.erasures.delete(tools[:2])
    assert [tag.yes for tag in services.teaching.taught()] == [3, 3]
    traces = {trace.place: trace.left for trace in services.erasures.verify(report.deletion_id).traces}
    assert traces["table head"] == 0
    with unit_of_work(services.engine) as session:
        session.execute(text("UPDATE head SET no = CAST(:ids AS bigint[])"), {"ids": tools[:1]})
    traces = {trace.place: trace.left for trace in services.erasures.verify(report.deletion_id).traces}
    assert traces["table head"] > 0

    # A vocabulary is known by its id, whatever others are called.
    with unit_of_work(services.engine) as session:
        first, second = sorted(view.id for view in vocabularies.views(session))[-2:]
        session.execute(text("UPDATE vocabulary SET name = :name WHERE id = :id"), {"name": str(first), "id": second})
        assert vocabularies.view(session, first).id == first


def test_a_damaged_or_lost_file_of_features_only_costs_its_images(make_services: Make, folder: Path) -> None:
    services = make_services(features="pooled")
    recognise(services, str(folder))
    tools = ids_of(services, "tool")
    with unit_of_work(services.engine) as session:
        rows = session.execute(
            text(
                """SELECT file.name, array_agg(image_id) AS ids FROM feature JOIN feature_file AS file
                   ON file.id = file_id GROUP BY file.name ORDER BY file.name"""
            )
        ).all()
    place = make_builder(services.settings, services.engine).store.place
    place.put(rows[0].name, b"damaged")
    for row in rows[1:2]:
        place.delete(row.name)
    lost = sorted(image_id for row in rows[:2] for image_id in row.ids)
    with pytest.raises(
        UsageError, match=rf"{len(lost)} of 54 images lack them: run `RAMQ_FEATURES=pooled ramq enqueue"
    ):
        services.teaching.apply("tool", [image_id for image_id in tools if image_id in lost][:5] or tools[:5])
    assert recognise(services, str(folder)).done == len(lost)
    assert services.teaching.apply("tool", tools[:5]).vocabulary == "imagenet-taught-1"
