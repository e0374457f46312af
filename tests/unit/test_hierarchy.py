"""What is a kind of what: tags above the classes of lite, and tags of other vocabularies by their names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import skimage
import torch
from PIL import Image

from ram_core import load_model
from ram_core.captions import template_caption
from ram_core.errors import CheckpointError
from ram_core.hierarchy import wordnet
from ram_core.hierarchy.ship import hierarchy_of
from ram_core.hierarchy.wordnet import Hierarchy, most_special, shipped_hierarchy
from ram_core.lite.imagenet import CLASSES, UPPER_THRESHOLD, imagenet_vocabulary, upper_weights
from ram_core.lite.model import Lite, load_lite
from ram_core.localization.boxes import Kinds as KindsOfRegions
from ram_core.transforms import normalise
from ram_core.vocabulary import TagVocabulary
from storage.results.tags import Names, UnknownTagError
from tests.reference import SHARED

BREEDS = ("poodle", "beagle", "dog", "animal", "oak", "crane", "bird", "Kitty/cat", "tabby")


def names_of(*names: str) -> Names:
    return Names(1, names, (None,) * len(names), (0.5,) * len(names), (), shipped_hierarchy())


def meant(names: Names, text: str) -> set[str]:
    return {names.names[tag_id] for tag_id in names.meant(text)}


def test_a_tag_means_its_kinds_too_and_an_id_the_tag_alone() -> None:
    names = names_of(*BREEDS)
    assert meant(names, "dog") == {"dog", "poodle", "beagle"}
    assert meant(names, "Animal") == {"animal", "dog", "poodle", "beagle", "bird", "Kitty/cat", "tabby"}
    assert names.meant("dog")[0] == 2
    assert meant(names, "poodle") == {"poodle"}
    assert meant(names, "kitty") == {"Kitty/cat", "tabby"}
    assert names.meant("2") == (2,)
    assert names.find("dog") == (2,)


def test_a_name_that_no_tag_has_means_the_kinds_that_there_are() -> None:
    names = names_of("poodle", "beagle", "tabby", "oak")
    assert meant(names, "dog") == meant(names, "domestic dog") == {"poodle", "beagle"}
    assert names.ids("dog") == ()
    with pytest.raises(UnknownTagError):
        names.meant("vehicle")
    with pytest.raises(UnknownTagError):
        names.find("dog")


def test_nothing_is_concluded_from_a_name_of_several_senses() -> None:
    names = names_of("crane", "bird", "machine", "kite", "mouse")
    assert meant(names, "bird") == {"bird"}
    assert meant(names, "machine") == {"machine"}


def test_without_a_hierarchy_tags_mean_themselves() -> None:
    names = Names(1, BREEDS, (None,) * len(BREEDS), (0.5,) * len(BREEDS))
    assert names.meant("dog") == (2,)


def test_no_tag_is_a_kind_of_itself_and_none_goes_round() -> None:
    kinds = shipped_hierarchy().over([(name,) for name in imagenet_vocabulary().names])
    below = {tag_id: set(kinds.below(tag_id)) for tag_id in range(CLASSES + len(shipped_hierarchy().upper_tags))}
    for tag_id, kinds_of_it in below.items():
        assert tag_id not in kinds_of_it
        assert all(tag_id not in below[kind] for kind in kinds_of_it)
        assert all(below[kind] <= kinds_of_it for kind in kinds_of_it)


def test_the_kinds_of_a_tag_of_lite_are_the_classes_that_it_adds_up() -> None:
    hierarchy = shipped_hierarchy()
    kinds = hierarchy.over([(name,) for name in imagenet_vocabulary().names])
    for place, tag in enumerate(hierarchy.upper_tags):
        below = {each for each in kinds.below(CLASSES + place) if each < CLASSES}
        assert below == set(tag.classes), tag.name
    bird = [tag.name for tag in hierarchy.upper_tags].index("bird")
    assert {134, 517} & set(kinds.below(CLASSES + bird)) == {134}  # of the two cranes


def test_the_vocabulary_of_lite_has_each_name_once_and_its_classes_first() -> None:
    vocabulary = imagenet_vocabulary()
    assert vocabulary.names[:CLASSES] == shipped_hierarchy().class_names
    upper = vocabulary.names[CLASSES:]
    assert {"animal", "dog", "vehicle", "food", "furniture", "musical instrument"} <= set(upper)
    assert len(set(upper) | set(vocabulary.names)) == len(set(vocabulary.names[:CLASSES])) + len(upper)
    assert vocabulary.resolve("taxi") == vocabulary.resolve("cab") == [468]
    assert vocabulary.resolve("automobile") == vocabulary.resolve("car")
    assert (vocabulary.thresholds[CLASSES:] == np.float32(UPPER_THRESHOLD)).all()


@pytest.fixture(scope="module")
def lite() -> Lite:
    model = load_model("lite")
    assert isinstance(model, Lite)
    return model


def test_the_score_of_an_upper_tag_is_the_sum_of_those_of_its_classes(lite: Lite) -> None:
    pixels = lite.preprocessing(Image.open(Path(skimage.__file__).parent / "data" / "chelsea.png"))[None]
    logits = lite.tag_logits(normalise(torch.tensor(pixels), lite.preprocessing.mean, lite.preprocessing.std))
    scores = logits.softmax(1)[0].numpy()
    (prediction,) = lite.predict(pixels)
    stored = dict(zip(prediction.tag_ids.tolist(), prediction.scores.tolist(), strict=True))
    for place, tag in enumerate(shipped_hierarchy().upper_tags):
        expected = min(1, scores[list(tag.classes)].sum())
        kept = expected if expected >= lite.score_floor else 0
        assert stored.get(CLASSES + place, 0) == pytest.approx(kept, abs=1e-5)
    (found,) = lite.recognize([Image.open(Path(skimage.__file__).parent / "data" / "chelsea.png")])
    assert {"cat", "animal", "mammal"} <= {tag.name for tag in found.tags}
    assert found.caption is not None
    assert "animal" not in found.caption


def test_lite_on_its_classes_alone_computes_the_same_of_them(lite: Lite) -> None:
    whole = lite.vocabulary
    assert whole.descriptions is not None
    classes = TagVocabulary(
        "x", whole.names[:CLASSES], whole.names_zh[:CLASSES], whole.thresholds[:CLASSES], whole.descriptions[:CLASSES]
    )
    pixels = lite.preprocessing(Image.open(Path(skimage.__file__).parent / "data" / "rocket.jpg"))[None]
    (more,), (less,) = lite.predict(pixels), load_lite(device=torch.device("cpu"), vocabulary=classes).predict(pixels)
    np.testing.assert_array_equal(more.vector, less.vector)
    is_class = more.tag_ids < CLASSES
    np.testing.assert_array_equal(more.tag_ids[is_class], less.tag_ids)
    np.testing.assert_array_equal(more.scores[is_class], less.scores)


def test_captions_of_things_name_the_most_special_ones() -> None:
    assert most_special(["animal", "dog", "poodle", "lamp"]) == ["poodle", "lamp"]
    assert template_caption(["animal", "dog"]) == "A photograph that may show a dog."
    assert template_caption(["animal", "dog"], are_things=False) == "A picture tagged animal and dog."


def test_the_locator_takes_the_hierarchy() -> None:
    kinds = KindsOfRegions(shipped_hierarchy().more_general())
    assert {"dog", "animal"} <= kinds.above("poodle")
    assert "dog" in kinds.above("standard poodle")
    assert not kinds.above("crane") & {"bird", "machine"}
    assert "cat" not in kinds.above("cat")


def test_the_shipped_data_is_what_the_script_makes_of_wordnet() -> None:
    path = SHARED / "lite" / "wordnet.json"
    if not path.is_file():
        pytest.skip(f"no {path}; RAMQ_SHARED_DIR says where it is")
    source = json.loads(path.read_text(encoding="utf-8"))
    assert hierarchy_of(source) == json.loads(wordnet.PATH.read_text(encoding="utf-8"))
    assert "WordNet" in wordnet.PATH.with_name("WORDNET-LICENCE.txt").read_text(encoding="utf-8")


def test_damaged_data_is_refused_with_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "shipped.json"
    path.write_text("{}")
    monkeypatch.setattr(wordnet, "PATH", path)
    shipped_hierarchy.cache_clear()
    with pytest.raises(CheckpointError, match=r"shipped\.json is missing or damaged"):
        shipped_hierarchy()
    monkeypatch.undo()
    assert isinstance(shipped_hierarchy(), Hierarchy)


def test_weights_say_which_classes_a_tag_adds_up() -> None:
    assert upper_weights().shape == (CLASSES, len(shipped_hierarchy().upper_tags))
    assert (upper_weights().sum(axis=0) > 0).all()
