"""Whatever is done to files between jobs, people's words stay with the bytes of which they were said."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.moves_model import NAMES, Folder, Model, Seen
from tests.same_picture import Photos

if TYPE_CHECKING:
    from pathlib import Path

    from ramq.wiring import Services
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services

KINDS = ("add", "copy", "move", "move", "swap", "swap", "touch", "overwrite", "delete", "renumber", "renumber")
ACTS = st.tuples(st.sampled_from(KINDS), st.sampled_from(NAMES), st.sampled_from(NAMES))
ROUNDS = st.lists(
    st.tuples(
        st.lists(ACTS, max_size=6),
        st.booleans(),
        st.lists(ACTS, max_size=3),
        st.lists(st.sampled_from(NAMES), max_size=3),
    ),
    min_size=1,
    max_size=4,
)
Acts = Sequence[tuple[str, str, str]]
TAGS = 64


def list_and_cancel(photos: Photos) -> None:
    """Start a job that sees what there is and reads nothing."""
    job = photos.services.jobs.create(str(photos.root))
    while photos.worker._planner.begin(lambda: False) or photos.worker._planner.go_on(lambda: False):
        pass
    if not photos.services.jobs.get(job.id).is_over:
        photos.services.jobs.cancel(job.id)


def seen(photos: Photos, archive_id: int) -> Seen:
    there = photos.rows("SELECT key, id FROM image WHERE archive_id = :id AND missing_since IS NULL", id=archive_id)
    words: dict[str, list[int]] = {}
    for row in photos.rows(
        """SELECT correction.name, image_id FROM correction JOIN image ON image.id = image_id
           WHERE archive_id = :id""",
        id=archive_id,
    ):
        words.setdefault(row.name, []).append(row.image_id)
    return Seen({row.key: row.id for row in there}, words)


@pytest.mark.timeout(600)
def test_words_stay_with_the_bytes_of_which_they_were_said(
    services: Services, crop_worker: Worker, tmp_path: Path
) -> None:
    numbers = count(1)

    @settings(
        max_examples=20,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(start=st.lists(st.sampled_from(NAMES), min_size=3, max_size=6, unique=True), rounds=ROUNDS)
    def check(start: Sequence[str], rounds: Sequence[tuple[Acts, bool, Acts, Sequence[str]]]) -> None:
        number = next(numbers)
        folder, model = Folder(tmp_path / str(number)), Model()
        photos = Photos(services, crop_worker, folder.root, tmp_path / "count")
        for name in start:
            folder.act("add", name, name)
        words = count(1)
        for acts, is_cancelled, more, spoken in [((), False, (), start[:2]), *rounds]:
            for act in acts:
                folder.act(*act)
            if is_cancelled and folder.held:
                list_and_cancel(photos)
            for act in more:
                folder.act(*act)
            if not folder.held:
                folder.act("add", NAMES[0], NAMES[0])  # an empty folder makes a job ask whether it is mounted
            job = photos.run()
            assert (job.state, job.failed) == ("done", 0)
            archive_id = photos.scalar("SELECT archive_id FROM job WHERE id = :id", id=job.id)
            now = seen(photos, archive_id)
            model.check(folder, now)
            for name in spoken:
                if name in now.there and (word := next(words)) < TAGS:
                    services.corrections.tag([now.there[name]], add=[f"tag {word}"])
                    model.said[f"tag {word}"] = folder.held[name]
        assert photos.scalar("SELECT count(*) FROM former_content") == 0

    check()
