"""The data engine over HTTP, through the client, and from the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ramq.client import Client, ProblemError
from ramq.services.dataset_views import BuildRequest
from ramq.wiring import Services
from tests.datasets import MadeUp, work
from tests.services.command_line import run_here
from tests.services.recognised import settings_for
from tests.services.web import serving

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

pytestmark = pytest.mark.services

PICTURES = 20


@pytest.fixture
def services(engine: Engine, tmp_path: Path) -> Services:
    """Services with a data set of pictures that are alike, but for two strays, which are said to be dogs too."""
    made_up = MadeUp(engine, ["dog", "cat"])
    rng = np.random.default_rng(0)
    vectors = np.concatenate([np.ones((PICTURES - 2, 16)), -np.ones((2, 16))]) + rng.normal(0, 0.1, (PICTURES, 16))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    made_up.add([f"{n:02}.jpg" for n in range(PICTURES)], [[0]] * PICTURES, vectors=vectors)
    services = Services(settings_for(tmp_path / "data"), engine, None, is_reachable=False)
    work(services, services.datasets.build("pets", BuildRequest(["file:///made-up"], near=1)))
    return services


def test_a_data_set_is_cleaned_and_added_to_over_http(services: Services) -> None:
    with serving(services) as url, Client(url) as client:
        begun = client.clean_labels("pets", regions="whole", contradiction=False, clusters=1)
        assert (begun.step, begun.number, begun.parent) == ("clean", 2, 1)
        assert begun.settings["cleaning"]["outlier_share"] == 0.1
        work(services, services.datasets.get(begun.id))
        [dog] = client.cleaned_tags("pets")
        assert (dog.name, dog.labels, dog.kept, dog.dropped) == ("dog", PICTURES, PICTURES - 2, {"outlier": 2})
        assert (dog.regions, dog.clusters, dog.skipped, dog.typical[0].region) == (PICTURES, 1, None, 0)
        assert client.review("pets").dropped.waiting == 2
        first = client.decisions("pets", "dog", limit=1)
        assert (len(first.items), len(first.typical) > 0) == (1, True)
        second = client.decisions("pets", dog.tag, limit=1, cursor=first.next_cursor)
        assert (second.next_cursor, second.typical) == (None, []), "typical pictures come with the first page only"
        assert second.items[0].image_id != first.items[0].image_id
        said = client.answer_decisions("pets", "dog", [first.items[0].image_id], is_right=True)
        assert said.image_ids == [first.items[0].image_id]
        assert client.review("pets").dropped.reviewed == 1
        assert client.answer_decisions("pets", "dog", said.image_ids, is_right=None).image_ids == said.image_ids
        with pytest.raises(ProblemError, match="was made by build, not clean"):
            client.cleaned_tags("pets", version=1)
        with pytest.raises(ProblemError, match="less than or equal to 0"):
            client.clean_labels("pets", outlier_share=0.7)
        again = client.generate_labels("pets", captioner="none", version=1)
        assert (again.step, again.parent, again.settings["model"]) == ("generate", 1, "lite")
        made = work(services, services.datasets.get(again.id))
        assert (made.state, made.counts["generated"]["recognised"]) == ("done", PICTURES)
        assert made.counts["generated"]["named_again"] == {"generated": PICTURES}
        with pytest.raises(ProblemError, match="no data set 'birds'"):
            client.generate_labels("birds")


def test_commands_begin_steps_and_show_what_they_did(services: Services) -> None:
    environment = {
        "RAMQ_DATABASE_URL": services.engine.url.render_as_string(hide_password=False),
        "RAMQ_DATA_DIR": str(services.settings.data_dir),
        "COLUMNS": "200",
    }

    def ramq(*words: str) -> str:
        ended = run_here(["dataset", *words], environment)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout + ended.stderr

    assert "pets@2  clean  running" in ramq(
        "clean", "pets", "--regions", "whole", "--clusters", "1", "--no-contradiction"
    )
    work(services, services.datasets.newest("pets"))
    shown = ramq("show", "pets")
    assert f"{PICTURES} labels of 1 tags: {PICTURES - 2} kept, 2 dropped" in shown
    assert "outlier 2" in shown
    assert "pets@3  generate  running" in ramq("generate", "pets", "--captioner", "none")
    work(services, services.datasets.newest("pets"))
    assert f"{PICTURES} of {PICTURES} images" in ramq("show", "pets")
    wrong = run_here(["dataset", "clean", "pets", "--outlier-share", "0.9"], environment)
    assert (wrong.returncode, "outlier_share 0.9 is not a number from 0 to 0.5" in wrong.stderr) == (2, True)
