"""Tags taught on a few pictures: learnt, applied with the pictures gone, searched, compared, taken back."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sqlalchemy import text

from ram_core.modeling.tiny import write_tiny_models
from ramq.services import stage_serving
from ramq.services.teach_views import Wanted
from ramq.services.teaching_by_name import NameScores
from storage.database import unit_of_work
from storage.errors import UsageError
from storage.results import corrections, generations, teachings, vocabularies
from storage.results.teachings import HeadRow
from storage.results.vocabularies import VocabularySpec
from storage.search.views import SearchQuery
from tests.services.recognised import recognise, run
from tests.services.taught import OTHERS, TOOLS, found, ids_of, records, tags_in_use
from tests.tiny_clip import write_tiny_clip

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray
    from sqlalchemy import Engine

    from ramq.wiring import Services
    from storage.tables import Generation

    Make = Callable[..., Services]

pytestmark = pytest.mark.services


def assert_told_where_the_tag_is(services: Services, image_id: int) -> None:
    """The tag of generation 2 is not unknown while generation 1 is in use: who asks for it learns where it is."""
    elsewhere = 'Unknown tag "Workshop tool". It is a tag of generation 2, which is not in use: see'
    with pytest.raises(UsageError, match=elsewhere):
        services.search.page(SearchQuery(tags=("Workshop tool",)))
    [note] = services.search.read(SearchQuery(), 'tag:"Workshop tool"').notes
    assert elsewhere in note.line
    [told] = services.corrections.tag([image_id], add=["workshop tool", "laptop"])
    assert told.startswith('"workshop tool" was kept, but search does not show it yet. It is a tag of generation 2')
    with unit_of_work(services.engine) as session:
        unused = stage_serving.unused(session, "recognition", 2, "lite")
    assert unused is not None
    assert "the results of lite with the vocabulary imagenet, generation 1" in unused
    assert "Those of lite with the vocabulary imagenet-taught-1 are in generation 2" in unused


def test_a_new_thing_is_taught_on_five_pictures_and_found_with_the_archive_gone(
    make_services: Make, folder: Path
) -> None:
    services = make_services()
    assert recognise(services, str(folder)).done == TOOLS + OTHERS
    yes, rest = ids_of(services, "tool", 5), ids_of(services, "tool")[5:]
    report = services.teaching.fit("workshop tool", yes)
    assert (report.is_new, report.yes, report.no, report.unnamed) == (True, 5, 0, TOOLS + OTHERS - 5)
    assert report.before is None
    assert report.after.average_precision > 0.3
    assert "5 pictures: the precision is between" in report.advice
    assert report.helps
    assert services.teaching.taught() == []

    backup = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.rmtree(folder)
    done = services.teaching.apply("workshop tool", yes, by="eve")
    assert done.vocabulary == "imagenet-taught-1"
    [job] = run(services, done.jobs)
    assert (job.state, job.done, job.failed, job.vocabulary) == ("done", TOOLS + OTHERS, 0, "imagenet-taught-1")
    assert (job.from_generation_id, job.generation_id) == (1, 2)

    # Nothing else has changed, to the last digit.
    before, after = records(services, 1), records(services, 2)
    size = services.vocabularies.show("imagenet")[0].tags
    assert {i: {t: s for t, s in tags.items() if t < size} for i, tags in after.items()} == before
    assigned = {image_id for image_id, tags in after.items() if tags.get(size, 0) > 5000}
    assert len(assigned & set(rest)) >= 5
    assert len(assigned - set(yes) - set(rest)) <= 4

    # It is a generation as any other: compared, used, rolled back.
    assert "workshop tool" not in tags_in_use(services)
    [change] = services.generations.compare(1, 2).tags  # the others do not differ
    assert (change.name, change.count_a) == ("workshop tool", 0)
    assert change.count_b == len(assigned | set(yes))  # what people said counts in any generation
    services.generations.use(2)
    assert "workshop tool" in tags_in_use(services)
    assert found(services, 'tag:"workshop tool"') >= {f"tool-{number:02}.webp" for number in range(5)}
    [taught] = services.teaching.taught()
    assert (taught.tag, taught.yes, taught.said_by, taught.is_serving) == ("workshop tool", 5, "eve", True)

    # The same again changes nothing.
    again = services.teaching.apply("workshop tool", yes, by="eve")
    assert (again.vocabulary, again.jobs) == ("imagenet-taught-1", [])

    # New pictures get the taught tag too, without saying so.
    folder.mkdir()
    for name, content in backup.items():
        if name.startswith("tool"):
            (folder / f"new-{name}").write_bytes(content)
    job = recognise(services, str(folder))
    assert (job.vocabulary, job.generation_id, job.done) == ("imagenet-taught-1", 2, TOOLS)
    size_now = records(services, 2)
    new = ids_of(services, "new-tool")
    assert [size_now[i].get(size, 0) for i in new[5:]] == [
        pytest.approx(size_now[i].get(size, 0), abs=300) for i in rest
    ]
    plain = services.jobs.create(str(folder), vocabulary="imagenet")
    assert run(services, [plain])[0].generation_id == 1

    assert services.generations.rollback().id == 1
    assert "workshop tool" not in tags_in_use(services)
    assert_told_where_the_tag_is(services, yes[0])


def test_tags_are_taught_one_after_the_other_and_mended_again(make_services: Make, folder: Path) -> None:
    services = make_services()
    recognise(services, str(folder))
    tools, others = ids_of(services, "tool"), ids_of(services, "other")
    [first] = run(services, services.teaching.apply("workshop tool", tools[:6]).jobs)
    services.generations.use(first.generation_id or 0)
    # A second tag, of which some answers are corrections.
    services.corrections.tag(tools[:3], add=["laptop"])
    done = services.teaching.apply("laptop", tools[3:6], others[:4])
    report = done.reports[0]
    assert (report.is_new, report.yes, report.no) == (False, 6, 4)
    assert report.before is not None
    assert {way.method for way in report.ways} == {"threshold", "own+head", "head"}
    assert report.method != "threshold"  # no tool looks like a laptop to the model
    [second] = run(services, done.jobs)
    assert (second.done, second.from_generation_id, second.vocabulary) == (54, first.generation_id, "imagenet-taught-2")
    size = services.vocabularies.show("imagenet")[0].tags
    mended = next(tag.id for tag in services.vocabularies.show("imagenet")[1] if tag.name == "laptop")
    one, two = records(services, first.generation_id or 0), records(services, second.generation_id or 0)
    assert {i: tags.get(size) for i, tags in one.items()} == {i: tags.get(size) for i, tags in two.items()}
    assert {i: tags.get(mended) for i, tags in one.items()} != {i: tags.get(mended) for i, tags in two.items()}
    # The same tags from the first generation, whose scores are the model's own.
    services.generations.use(second.generation_id or 0)
    with unit_of_work(services.engine) as session:
        session.execute(text("DELETE FROM record WHERE generation_id = :id"), {"id": second.generation_id})
    [again] = run(services, services.jobs.retag("imagenet-taught-2", from_generation=1))
    assert (again.done, again.generation_id) == (54, second.generation_id)
    three = records(services, second.generation_id or 0)
    assert {i: tags.get(mended) for i, tags in two.items()} == {i: tags.get(mended) for i, tags in three.items()}
    assert [t.tag for t in services.teaching.taught()] == ["laptop", "workshop tool"]

    def uses() -> dict[str, tuple[list[int], bool]]:
        return {one.tag: (one.generations, one.is_serving) for one in services.teaching.taught()}

    assert uses() == {"laptop": ([3], True), "workshop tool": ([2, 3], True)}
    services.generations.rollback()  # the first tag is in the vocabulary of this generation, too
    assert uses() == {"laptop": ([3], False), "workshop tool": ([2, 3], True)}
    # What is taught now would be without the second tag.
    [warning] = services.teaching.left_behind(["a third"])
    assert warning.startswith(
        "laptop was taught in imagenet-taught-2, which is not in use; the new generation will not"
    )
    assert warning.endswith("Use it first: `ramq generations use 3`")
    assert services.teaching.left_behind(["Laptop"]) == []
    services.generations.rollback()
    assert services.teaching.left_behind(["a third"]) == []
    # Mended once more, from a generation whose scores are a head's.
    report = services.teaching.fit("laptop", tools[6:9])
    assert (report.yes, report.is_new) == (9, False)
    assert [way.method for way in report.ways] == ["head"]
    assert report.before is None  # only three pictures are none of those that made the former head
    assert "before is not comparable" in report.advice


def test_tags_that_were_taught_later_are_left_out_again(make_services: Make, folder: Path) -> None:
    services = make_services()
    recognise(services, str(folder))
    tools, others = ids_of(services, "tool"), ids_of(services, "other")
    [first] = run(services, services.teaching.apply("workshop tool", tools[:6]).jobs)
    services.generations.use(first.generation_id or 0)
    [second] = run(services, services.teaching.apply("something else", others[:6]).jobs)
    size = services.vocabularies.show("imagenet")[0].tags
    assert any(size + 1 in tags for tags in records(services, second.generation_id or 0).values())
    before = records(services, first.generation_id or 0)
    with unit_of_work(services.engine) as session:
        session.execute(text("DELETE FROM record WHERE generation_id = :id"), {"id": first.generation_id})
    [again] = run(services, services.jobs.retag(first.vocabulary, from_generation=second.generation_id))
    assert (again.done, again.failed, again.generation_id) == (54, 0, first.generation_id)
    assert records(services, first.generation_id or 0) == before


def test_tags_that_are_scored_by_their_names_are_told_apart(recognised_engine: Engine) -> None:
    with unit_of_work(recognised_engine) as session:
        source = generations.default(session)
        assert source is not None
        tags = vocabularies.tags(session, source.vocabulary_id)

        def made_by(name: str, threshold: float) -> str:
            """What tells how the tag behind the others gets its score."""
            spec = VocabularySpec(
                sha256=(name.encode().hex() + f"{threshold:.0e}".encode().hex()).ljust(64, "0"),
                name=f"with-{name}-{threshold}",
                names=[*(tag.name for tag in tags), name],
                names_zh=[None] * (len(tags) + 1),
                thresholds=[*(tag.threshold for tag in tags), threshold],
            )
            head = HeadRow(len(tags), "description", b"", 0.0, 0.0, [], [], {}, "eve")
            return teachings.basis(
                session, teachings.add(session, spec, [head], from_generation_id=source.id, said_by="eve")
            ).mended[len(tags)]

        assert len({made_by("crane", 0.5), made_by("heron", 0.5), made_by("crane", 0.6)}) == 3
        assert made_by("crane", 0.5) == made_by("crane", 0.5)


def test_all_tags_with_enough_corrections_are_taught_together(
    make_services: Make, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = make_services()
    recognise(services, str(folder))
    with pytest.raises(UsageError, match="no tag was added to 5 images"):
        services.teaching.corrected()
    tools, others = ids_of(services, "tool"), ids_of(services, "other")
    services.corrections.tag(tools[:6], add=["hammer", "screwdriver"])
    services.corrections.tag(tools[6:8], add=["nail"])
    services.corrections.tag(others[:5], remove=["hammer"])
    reports = services.teaching.teach(services.teaching.corrected()).reports
    assert [(report.tag, report.yes, report.no) for report in reports] == [("hammer", 6, 5), ("screwdriver", 6, 0)]
    # Of more than can be learnt, some are. What people said about the others stays said.
    monkeypatch.setattr("ramq.services.lessons.MOST_LEARNT", 5)
    reports = services.teaching.teach(services.teaching.corrected()).reports
    assert [(report.tag, report.yes, report.no, report.left_out) for report in reports] == [
        ("hammer", 5, 5, 1),
        ("screwdriver", 5, 0, 1),
    ]
    assert reports[0].unnamed == TOOLS + OTHERS - 11
    done = services.teaching.apply("saw", tools[:8])
    assert (done.reports[0].yes, done.reports[0].left_out) == (5, 3)
    with unit_of_work(services.engine) as session:
        [said] = corrections.answers(session, "saw", least=0)
    assert sorted(said.yes) == sorted(tools[:8])


def test_what_stands_in_the_way_of_teaching_is_said(make_services: Make, folder: Path) -> None:
    services = make_services(features="none")
    with pytest.raises(UsageError, match="ramq enqueue SOURCE"):
        services.teaching.fit("tool", [1])
    recognise(services, str(folder))
    tools, others = ids_of(services, "tool"), ids_of(services, "other")
    with pytest.raises(
        UsageError, match=r"5 of the named images .*54 of 54 images lack them: run `RAMQ_FEATURES=pooled"
    ):
        services.teaching.fit("tool", tools[:5])
    services = make_services(features="pooled")
    assert recognise(services, str(folder)).done == TOOLS + OTHERS  # the same archive again, since these are missing
    fit = services.teaching.fit
    with pytest.raises(UsageError, match="needs 5 pictures, and 1 is named; name 4 more"):
        fit("tool", tools[:1])
    with pytest.raises(UsageError, match=f"image {tools[0]} is named both"):
        fit("tool", tools[:5], tools[:1])
    with pytest.raises(UsageError, match="did not record image 999"):
        fit("tool", [*tools[:4], 999])
    with pytest.raises(UsageError, match="has no name"):
        fit("  ", tools[:5])
    with pytest.raises(UsageError, match="cannot be typed"):
        fit("a\x00b", tools[:5])
    with pytest.raises(UsageError, match="not the number of a tag"):
        fit("99999", tools[:5])
    with pytest.raises(UsageError, match="precision"):
        fit("tool", tools[:5], precision=1)
    with pytest.raises(UsageError, match="given twice"):
        services.teaching.teach([Wanted("tool", tools[:5]), Wanted("Tool", tools[:5])])
    with pytest.raises(UsageError, match="name at least one image"):
        services.teaching.suggest("tool")
    suggested = services.teaching.suggest("tool", 6, yes=tools[:2])
    assert len(suggested.images) == 6
    assert suggested.advice == "name 3 more to teach it"
    assert not {one.image_id for one in suggested.images} & set(tools[:2])
    suggested = services.teaching.suggest("tool", 6, yes=tools[:6], no=others[:3])
    assert (len(suggested.images), suggested.yes, suggested.no) == (6, 6, 3)


@pytest.mark.parametrize("method", ["head", "description"])
def test_ram_plus_is_taught_on_kept_tokens_or_by_the_name_of_the_tag(
    make_services: Make, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    folder = tmp_path / "few"
    folder.mkdir()
    for path in [*sorted(pictures.glob("tool*"))[:7], *sorted(pictures.glob("other*"))[:9]]:
        shutil.copy(path, folder)
    models = tmp_path / "models"
    write_tiny_models("ram_plus", models)
    write_tiny_clip(models / "clip-vit-base-patch16")
    services = make_services(models_dir=models, model="ram_plus", captioner="none")
    recognise(services, str(folder))
    tools = ids_of(services, "tool")
    with pytest.raises(UsageError, match=r"16 of 16 images lack them: run `RAMQ_FEATURES=tokens ramq enqueue"):
        services.teaching.fit("tool", tools[:5])
    services = make_services(models_dir=models, model="ram_plus", captioner="none", features="tokens")
    recognise(services, str(folder))
    # The weights are made up, so scores tell nothing. In place of those by the name, some are given that tell all.
    by_name = NameScores.__call__

    def scored(self: NameScores, source: Generation, tag: str, rows: NDArray[np.uint8]) -> NDArray[np.float32]:
        found = by_name(self, source, tag, rows)
        assert found is not None
        assert (found.shape, bool(np.isfinite(found).all())) == ((16,), True)
        return np.where(np.arange(len(found)) < 5, 0.6 if method == "description" else 0.1, 0.1).astype(np.float32)

    monkeypatch.setattr(NameScores, "__call__", scored)
    assert [way.method for way in services.teaching.fit("tool", tools[:5]).ways] == ["head"]  # as in the server
    done = services.teaching_by_name.apply("tool", tools[:5])
    assert (done.reports[0].method, len(done.reports[0].ways)) == (method, 2)
    [job] = run(services, done.jobs)
    assert (job.state, job.done, job.failed) == ("done", 16, 0)
    from_tokens = records(services, job.generation_id or 0)
    size = services.vocabularies.show("ram")[0].tags
    assert {i: {t: s for t, s in tags.items() if t < size} for i, tags in from_tokens.items()} == records(services, 1)
    # The same from the pictures, but for the rounding of tokens.
    with unit_of_work(services.engine) as session:
        session.execute(text("DELETE FROM record WHERE generation_id = :id"), {"id": job.generation_id})
    [fresh] = run(services, [services.jobs.create(str(folder), vocabulary=done.vocabulary)])
    assert (fresh.done, fresh.generation_id) == (16, job.generation_id)
    from_pictures = records(services, job.generation_id or 0)
    for image_id, tags in from_pictures.items():
        assert tags.get(size, 3000) == pytest.approx(from_tokens[image_id].get(size, 3000), abs=300)
