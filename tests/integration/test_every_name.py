"""Whatever takes tags by name takes every name: synonyms, alternatives, Chinese ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from ram_core.training.data.describing import Describer
from ram_core.vocabulary_file import read_vocabulary
from ramq.wiring import Services
from storage.database import unit_of_work
from storage.errors import UsageError
from storage.results.region_views import FoundRegion
from storage.search.views import SearchQuery
from tests.services.command_line import run_here
from tests.services.located import write_regions
from tests.services.recognised import settings_for

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

pytestmark = pytest.mark.services

TABLE = (
    "name,name_zh,synonyms\nlatte/milk coffee,拿铁/牛奶咖啡,caffelatte\nporcelain,瓷/瓷器,china ware\n"
    "bat one,蝙蝠,bat\nbat two,蝙蝠,bat\n"
)
LATTE = ("latte/milk coffee", "LATTE", "milk  coffee", "拿铁", "牛奶咖啡", "拿铁/牛奶咖啡", "Caffelatte")
PLACE = (0.1, 0.1, 0.4, 0.4)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "cafe.csv"
    path.write_text(TABLE, encoding="utf-8")
    return path


@pytest.fixture
def services(recognised_engine: Engine, tmp_path: Path, file: Path) -> Services:
    services = Services(settings_for(tmp_path / "data"), recognised_engine, None, is_reachable=False)
    services.vocabularies.add(file)
    return services


@pytest.mark.parametrize("typed", LATTE)
def test_corrections(services: Services, typed: str) -> None:
    cup = services.images.find("coffee.png")
    services.corrections.tag([cup], add=[typed])
    with unit_of_work(services.engine) as session:
        assert session.scalars(text("SELECT name FROM correction")).all() == [LATTE[0]]
    services.corrections.tag([cup], reset=["拿铁"])
    with unit_of_work(services.engine) as session:
        assert session.scalars(text("SELECT name FROM correction")).all() == []


def test_files_of_rules(services: Services, recognised_engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "rules.txt").write_text("# drinks\n牛奶咖啡\nChina Ware\n", encoding="utf-8")
    environment = {
        "RAMQ_DATABASE_URL": recognised_engine.url.render_as_string(hide_password=False),
        "RAMQ_DATA_DIR": str(tmp_path / "data"),
    }
    done = run_here(("policy", "no-thing", "--file", str(tmp_path / "rules.txt")), environment)
    assert done.returncode == 0, done.stderr
    assert sorted(rule.name for rule in services.policies.list()) == [LATTE[0], "porcelain"]


@pytest.mark.parametrize("typed", LATTE)
def test_tags_to_locate(services: Services, typed: str) -> None:
    [job] = services.stages.start("locate", SearchQuery(), options={"tags": [typed, "china ware", "my own words"]})
    assert job.options == {"tags": [LATTE[0], "my own words", "porcelain"]}
    assert services.stages.estimate("locate", SearchQuery(), options={"tags": [typed, "拿铁"]}).tags == 1


def test_tags_to_locate_that_several_tags_share_stay_unless_no_detector_knows_them(services: Services) -> None:
    [job] = services.stages.start("locate", SearchQuery(), options={"tags": ["bat", "7"]})
    assert job.options == {"tags": ["7", "bat"]}
    with pytest.raises(UsageError, match="'蝙蝠' matches several tags: use one of bat one, bat two"):
        services.stages.start("locate", SearchQuery(), options={"tags": ["蝙蝠"]})


@pytest.mark.parametrize("typed", LATTE)
def test_regions_that_people_draw(services: Services, typed: str) -> None:
    cup = services.images.find("coffee.png")
    write_regions(services, cup, [FoundRegion("cup", 0.9, (0.5, 0.5, 0.9, 0.9))])
    services.regions.correct(cup, typed, PLACE, is_there=True)
    assert sorted(region.tag for region in services.regions.get(cup).regions) == ["cup", LATTE[0]]


def test_regions_under_a_synonym_are_still_rejected_under_it(services: Services) -> None:
    cup = services.images.find("coffee.png")
    write_regions(services, cup, [FoundRegion("caffelatte", 0.9, PLACE), FoundRegion("cup", 0.9, (0.5, 0.5, 0.9, 0.9))])
    services.regions.correct(cup, "Caffelatte", PLACE, is_there=False)
    assert [region.tag for region in services.regions.get(cup).regions] == ["cup"]


@pytest.mark.parametrize("typed", LATTE)
def test_data_to_train_and_evaluate_with(file: Path, typed: str) -> None:
    assert Describer(read_vocabulary(file)).ids([typed, {"name": "瓷器"}], "here") == [0, 1]
