"""New tags for what is recorded, from what was kept of it: the archive is taken away first."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sqlalchemy import text
from transformers import CLIPConfig, CLIPModel

from ram_core.modeling.tiny import write_tiny_models
from ramq.demo_photos import installed_photographs
from ramq.wiring import Services
from storage.database import unit_of_work
from storage.errors import NotFoundError, UsageError
from storage.index.feature_compaction import compact
from storage.results.packing import unpack_vectors
from storage.search.views import SearchQuery
from tests.services.missing import missing
from tests.services.recognised import make_worker, recognise, run, settings_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy import Engine

    Make = Callable[..., Services]

pytestmark = pytest.mark.services

SHOWN = {"chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg", "flower.jpg", "gravel.png"}
PHOTOGRAPHS = len(SHOWN)
PAIRS = "SELECT {} FROM vector a JOIN vector b USING (image_id) WHERE (a.generation_id, b.generation_id) = (1, 2)"
TINY_CLIP = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


def make_clip(folder: Path) -> None:
    """A CLIP of no size, with the files that the real one has."""
    words = [
        "<|startoftext|>",
        "<|endoftext|>",
        *"abcdefghijklmnopqrstuvwxyz.",
        *(f"{c}</w>" for c in "abcdefghijklmnopqrstuvwxyz."),
    ]
    clip = folder / "clip-vit-base-patch16"
    clip.mkdir(parents=True)
    config = CLIPConfig(
        text_config={
            **TINY_CLIP,
            "vocab_size": len(words),
            "max_position_embeddings": 77,
            "eos_token_id": 1,
            "bos_token_id": 0,
        },
        vision_config={**TINY_CLIP, "image_size": 32, "patch_size": 16},
        projection_dim=512,
    )
    CLIPModel(config).save_pretrained(clip)
    (clip / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (clip / "merges.txt").write_text("#version: 0.2\n")
    (clip / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "CLIPTokenizer",
                "bos_token": "<|startoftext|>",
                "eos_token": "<|endoftext|>",
                "unk_token": "<|endoftext|>",
                "pad_token": "<|endoftext|>",
            }
        )
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    photos = tmp_path / "photos"
    photos.mkdir()
    for photograph in installed_photographs():
        if photograph.name in SHOWN:
            shutil.copy(photograph, photos)
    if len(list(photos.iterdir())) < PHOTOGRAPHS:
        missing("the photographs of scikit-image are not installed: install the extra `dev`")
    return photos


@pytest.fixture
def make_services(engine: Engine, tmp_path: Path) -> Make:
    def make(**changes: object) -> Services:
        return Services(settings_for(tmp_path / "data", **changes), engine, None, is_reachable=False)

    return make


def add(services: Services, tmp_path: Path, *names: str, name: str = "own") -> None:
    path = tmp_path / f"{name}.txt"
    path.write_text("\n".join(names))
    services.vocabularies.add(path)


def rows(services: Services, statement: str, **values: object) -> list[tuple]:  # type: ignore[type-arg]
    with unit_of_work(services.engine) as session:
        return [tuple(row) for row in session.execute(text(statement), values)]


def tags_of(services: Services, generation_id: int) -> dict[str, set[str]]:
    """By key: the assigned tags."""
    found = rows(
        services,
        """SELECT image.key, coalesce(array_agg(tag.name) FILTER (WHERE s > tag.threshold * 10000), '{}')
           FROM record JOIN image ON image.id = image_id JOIN generation ON generation.id = generation_id
           LEFT JOIN LATERAL unnest(tags, scores) AS has (t, s) ON true
           LEFT JOIN tag ON tag.vocabulary_id = generation.vocabulary_id AND tag.id = t
           WHERE generation_id = :id GROUP BY image.key""",
        id=generation_id,
    )
    return {key: set(names) for key, names in found}


def test_lite_gives_new_tags_from_its_vectors_with_the_archive_gone(
    make_services: Make, folder: Path, tmp_path: Path
) -> None:
    services = make_services()
    assert recognise(services, str(folder)).done == PHOTOGRAPHS
    before = tags_of(services, 1)
    cat = (folder / "chelsea.png").read_bytes()
    shutil.rmtree(folder)
    add(services, tmp_path, "cat", "coffee", "motorcycle", "rocket", "clock", "flower", "building")
    [job] = run(services, services.jobs.retag("own"))
    assert (job.state, job.done, job.failed, job.listed) == ("done", PHOTOGRAPHS, 0, PHOTOGRAPHS)
    assert (job.from_generation_id, job.vocabulary, job.generation_id) == (1, "own", 2)
    new = tags_of(services, 2)
    assert set(new) == set(before)
    assert set().union(*new.values()) <= {"cat", "coffee", "motorcycle", "rocket", "clock", "flower", "building"}
    for key, tag in {"chelsea.png": "cat", "coffee.png": "coffee", "motorcycle_left.png": "motorcycle"}.items():
        assert tag in new[key]
    assert new["gravel.png"] == set()
    vectors = rows(
        services,
        PAIRS.format("a.v = b.v"),
    )
    assert vectors == [(True,)] * PHOTOGRAPHS
    hashes = rows(services, PAIRS.format("a.sha256 = b.sha256").replace("vector", "record"))
    assert hashes == [(True,)] * PHOTOGRAPHS, "of the bytes that were recognised first"
    # Again: everything is there.
    [again] = run(services, services.jobs.retag("own", from_generation=1))
    assert (again.done, again.skipped) == (0, PHOTOGRAPHS)
    assert services.generations.use(2).is_default
    [found] = services.search.by_image(cat, SearchQuery(limit=1)).items
    assert (found.key, found.generation_id) == ("chelsea.png", 2)


def test_ram_plus_gives_the_same_tags_from_kept_tokens_as_from_the_pictures(
    make_services: Make, folder: Path, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    write_tiny_models("ram_plus", models)
    make_clip(models)
    services = make_services(models_dir=models, model="ram_plus", features="tokens", captioner="none")
    first = recognise(services, str(folder))
    assert (first.done, first.features) == (PHOTOGRAPHS, "tokens")
    add(services, tmp_path, *(f"thing {c}" for c in "abcdefgh"))
    fresh = services.jobs.create(str(folder), vocabulary="own")
    [read] = run(services, [fresh])
    assert (read.done, read.vocabulary) == (PHOTOGRAPHS, "own")
    from_pictures = rows(services, "SELECT image_id, tags, scores FROM record WHERE generation_id = 2 ORDER BY 1")
    rows_before = rows(services, "SELECT count(*) FROM feature WHERE generation_id = 1")
    with unit_of_work(services.engine) as session:
        session.execute(text("DELETE FROM record WHERE generation_id = 2"))
    shutil.rmtree(folder)
    [job] = run(services, services.jobs.retag("own", from_generation=1))
    assert (job.state, job.done, job.failed) == ("done", PHOTOGRAPHS, 0)
    from_tokens = rows(services, "SELECT image_id, tags, scores FROM record WHERE generation_id = 2 ORDER BY 1")
    for (image, tags, scores), (same, other_tags, other_scores) in zip(from_pictures, from_tokens, strict=True):
        assert image == same
        common = dict(zip(tags, scores, strict=True)), dict(zip(other_tags, other_scores, strict=True))
        assert all(abs(common[0][tag] - common[1][tag]) < 300 for tag in common[0].keys() & common[1].keys())
    assert rows_before == [(PHOTOGRAPHS,)]
    near = rows(
        services,
        PAIRS.format("a.v, b.v"),
    )
    assert all(float(np.dot(unpack_vectors(a, 512)[0], unpack_vectors(b, 512)[0])) > 0.999 for a, b in near)


def test_what_stands_in_the_way_of_new_tags_is_said(make_services: Make, folder: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_tiny_models("ram_plus", models)
    services = make_services(models_dir=models, model="ram_plus", features="global", captioner="none")
    with pytest.raises(NotFoundError, match="no vocabulary 'own'"):
        services.jobs.retag("own")
    add(services, tmp_path, "dog")
    with pytest.raises(UsageError, match="ramq enqueue"):
        services.jobs.retag("own")
    recognise(services, str(folder))
    with pytest.raises(UsageError, match=f"{PHOTOGRAPHS} of {PHOTOGRAPHS} images; .* RAMQ_FEATURES=tokens"):
        services.jobs.retag("own")
    with pytest.raises(UsageError, match="the source is empty"):
        services.jobs.retag("own", archive="")
    with pytest.raises(NotFoundError, match="no generation 9"):
        services.jobs.retag("own", from_generation=9)
    with pytest.raises(UsageError, match="already"):
        services.jobs.retag("ram")
    # Asked for tokens, the same archive is recognised again, since only these are missing.
    better = make_services(models_dir=models, model="ram_plus", features="tokens", captioner="none")
    assert recognise(better, str(folder)).done == PHOTOGRAPHS
    assert recognise(better, str(folder)).skipped == PHOTOGRAPHS


def test_features_of_deleted_images_leave_their_file_and_what_nobody_needs_is_deleted(
    make_services: Make, folder: Path, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    write_tiny_models("ram_plus", models)
    services = make_services(models_dir=models, model="ram_plus", features="tokens", captioner="none")
    recognise(services, str(folder))
    place = make_worker(services)._builder.store.place
    first = place.names("features/generation-1")
    ids = [image for (image,) in rows(services, "SELECT image_id FROM feature ORDER BY 1")]
    services.erasures.delete(ids[:1])
    assert rows(services, "SELECT count(*) FROM feature") == [(PHOTOGRAPHS - 1,)]
    assert compact(services.engine, place) == 0  # a sixth is dead
    assert compact(services.engine, place, purge=True, grace_seconds=0) == len(first) == 1
    [kept] = rows(services, "SELECT rows, name FROM feature_file")
    assert kept[0] == PHOTOGRAPHS - 1
    assert list(place.names("features/generation-1")) == [kept[1].rpartition("/")[2]]
    assert not set(first) & set(place.names("features/generation-1"))
    services.erasures.delete(ids[1:])
    compact(services.engine, place, grace_seconds=0)
    assert place.names("features/generation-1") == {}
    assert rows(services, "SELECT count(*) FROM feature_file") == [(0,)]


def test_a_damaged_feature_file_fails_its_images_and_says_what_to_do(
    make_services: Make, folder: Path, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    write_tiny_models("ram_plus", models)
    make_clip(models)
    services = make_services(models_dir=models, model="ram_plus", features="tokens", captioner="none")
    recognise(services, str(folder))
    [(name,)] = rows(services, "SELECT name FROM feature_file")
    path = services.settings.data_dir / "index" / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    add(services, tmp_path, "dog")
    [job] = run(services, services.jobs.retag("own"))
    assert (job.state, job.done, job.failures_by_class) == ("done", 0, {"features_missing": PHOTOGRAPHS})
    assert "RAMQ_FEATURES=tokens" in services.jobs.failures(job.id).items[0].detail
