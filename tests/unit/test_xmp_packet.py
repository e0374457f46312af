"""XMP packets: what is written, what stays, and what other programs read of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from ram_core.hierarchy.wordnet import paths
from ram_core.xmp_packet import MOST_BYTES, PacketError, Words, written

if TYPE_CHECKING:
    from pathlib import Path

FOREIGN = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Adobe XMP Core 7.0">
 <!-- by hand -->
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="4"
    xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/" crs:Exposure2012="+0.50"/>
  <rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">
   <dc:subject><rdf:Bag><rdf:li>dog</rdf:li><rdf:li>Rex</rdf:li></rdf:Bag></dc:subject>
   <dc:description><rdf:Alt><rdf:li xml:lang="x-default">Rex in the garden</rdf:li></rdf:Alt></dc:description>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>""".encode()

WORDS = Words(("dog", "animal"), (("animal", "dog"),), "A dog in a garden.")


def read(packet: bytes | None, path: Path) -> dict[str, Any]:
    """Read a sidecar with Exiv2, the library of digiKam, darktable and others."""
    pyexiv2 = pytest.importorskip("pyexiv2")
    assert packet is not None
    path.write_bytes(packet)
    image = pyexiv2.Image(str(path))
    found: dict[str, Any] = image.read_xmp()
    image.close()
    return found


def test_another_library_reads_what_is_written(tmp_path: Path) -> None:
    found = read(written(None, WORDS), tmp_path / "a.xmp")
    assert found["Xmp.dc.subject"] == ["dog", "animal"]
    assert found["Xmp.lr.hierarchicalSubject"] == ["animal|dog"]
    assert found["Xmp.dc.description"] == {'lang="x-default"': "A dog in a garden."}


def test_what_is_there_stays_and_words_are_added(tmp_path: Path) -> None:
    found = read(written(FOREIGN, WORDS), tmp_path / "a.xmp")
    assert found["Xmp.dc.subject"] == ["dog", "Rex", "animal"]
    assert found["Xmp.dc.description"] == {'lang="x-default"': "Rex in the garden"}
    assert found["Xmp.xmp.Rating"] == "4"
    assert found["Xmp.crs.Exposure2012"] == "+0.50"
    assert b"by hand" in (tmp_path / "a.xmp").read_bytes()


def test_a_second_run_changes_nothing_and_a_later_one_takes_back_only_what_was_written(tmp_path: Path) -> None:
    packet = written(FOREIGN, WORDS)
    assert packet is not None
    assert written(packet, WORDS) is None
    later = written(packet, Words(("cat",)))
    assert read(later, tmp_path / "a.xmp")["Xmp.dc.subject"] == ["dog", "Rex", "cat"]
    assert "Xmp.lr.hierarchicalSubject" not in read(later, tmp_path / "a.xmp")
    last = read(written(later, Words(())), tmp_path / "a.xmp")
    assert last["Xmp.dc.subject"] == ["dog", "Rex"], "people's words, also one that was a tag as well"
    assert last["Xmp.xmp.Rating"] == "4"


def test_a_word_that_somebody_took_out_is_not_put_in_again(tmp_path: Path) -> None:
    packet = written(None, Words(("dog", "animal")))
    assert packet is not None
    left = b"<dc:subject><rdf:Bag><rdf:li>dog</rdf:li></rdf:Bag></dc:subject>"
    without = re.sub(rb"<dc:subject>.*?</dc:subject>", left, packet, flags=re.DOTALL)
    assert written(without, Words(("dog", "animal"))) is None
    found = read(written(without, Words(("dog", "animal", "pet"))), tmp_path / "a.xmp")
    assert found["Xmp.dc.subject"] == ["dog", "pet"]


def test_a_description_of_ours_follows_until_somebody_writes_another(tmp_path: Path) -> None:
    packet = written(None, Words((), description="A dog."))
    assert packet is not None
    newer = written(packet, Words((), description="Two dogs."))
    assert newer is not None
    assert read(newer, tmp_path / "a.xmp")["Xmp.dc.description"] == {'lang="x-default"': "Two dogs."}
    by_hand = newer.replace(b'x-default">Two dogs.', b'x-default">Rex and Bella')
    kept = written(by_hand, Words((), description="Three dogs."))
    assert read(kept, tmp_path / "a.xmp")["Xmp.dc.description"] == {'lang="x-default"': "Rex and Bella"}
    assert written(kept, Words((), description="Four dogs.")) is None


@pytest.mark.parametrize("word", ["a|b", "x\x00y\x0bz", "<b>&amp;", "\ud800 half", " two\n lines ", "猫"])
def test_any_word_can_be_written(tmp_path: Path, word: str) -> None:
    found = read(written(None, Words((word,), ((word, "dog"),))), tmp_path / "a.xmp")
    [subject] = found["Xmp.dc.subject"]
    assert subject == " ".join(re.sub("[\x00\x0b\ud800]", " ", word).split())
    assert found["Xmp.lr.hierarchicalSubject"] == [f"{subject.replace('|', '/')}|dog"]


@pytest.mark.parametrize(
    ("packet", "told"),
    [
        (b"", "is not XML"),
        (b"keywords: dog", "is not XML"),
        (FOREIGN[:400], "is not XML"),
        (b"<html/>", "not XMP"),
        (b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>', "has no RDF"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]>' + FOREIGN, "document type"),
        ('<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY b "c">]><a/>'.encode("utf-16"), "document type"),
        (FOREIGN + b" " * MOST_BYTES, "larger than 8 MB"),
    ],
)
def test_what_is_no_xmp_is_left_alone(packet: bytes, told: str) -> None:
    with pytest.raises(PacketError, match=told):
        written(packet, WORDS)


def test_a_packet_may_use_our_prefixes_for_something_else(tmp_path: Path) -> None:
    strange = FOREIGN.replace(b"xmlns:crs=", b"xmlns:ramq=").replace(b"crs:Exposure2012", b"ramq:Exposure2012")
    found = read(written(strange, WORDS), tmp_path / "a.xmp")
    assert found["Xmp.crs.Exposure2012"] == "+0.50"
    assert found["Xmp.dc.subject"] == ["dog", "Rex", "animal"]


def test_paths_go_from_the_general_to_the_special() -> None:
    assert paths(["golden retriever", "dog", "animal", "mammal", "castle"]) == [
        ("animal", "mammal", "dog", "golden retriever")
    ]
    assert paths(["castle", "no such word"]) == []
