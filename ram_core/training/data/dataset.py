"""What is known of images, for millions of them, and how their pictures are read."""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

from ram_core.errors import TrainingError
from ram_core.labels.tables import whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_MOST_SHORT = 1 << 16  # numbers below it take two bytes
_NAMED = 3  # paths in the name of a set


@dataclass(frozen=True, slots=True)
class Sample:
    """What is known of one image.

    Attributes:
        name: its path, or its key in an archive or a shard; "/" parts folders.
        captions: its captions, as they were given.
        caption_tags: for each caption, the ids of the tags that it names; ``parse_label_id`` of official files.
        tags: ids of all tags of the image; ``union_label_id`` of official files.
    """

    name: str
    captions: list[str]
    caption_tags: list[list[int]]
    tags: list[int]


class Samples(Sequence[Sample]):
    """Samples in three buffers, without an object for each: tens of bytes beside the texts themselves.

    Args:
        tag_count: number of tags of the vocabulary.
    """

    def __init__(self, tag_count: int) -> None:
        self.tag_count = tag_count
        self.captions = self.tags = 0
        self.without_captions = self.without_tags = 0
        self._texts = bytearray()
        self._numbers = array("H" if tag_count < _MOST_SHORT else "I")
        self._ends = array("Q", [0, 0])  # of the texts and of the numbers, in turn

    def append(self, sample: Sample) -> None:
        """Add a sample. Halves of characters (surrogates) in captions are replaced.

        Raises:
            TrainingError: an id is none of the vocabulary's, or there are not as many lists of tags as captions.
        """
        self._check(sample)
        captions = (whole(text) for text in sample.captions)
        texts = (text.replace("\0", " ") for text in (sample.name, *captions))
        self._texts += "\0".join(texts).encode("utf-8", "surrogatepass")
        for ids in (sample.tags, *sample.caption_tags):
            self._numbers.append(len(ids))
            self._numbers.extend(ids)
        self._ends.extend((len(self._texts), len(self._numbers)))
        self.captions += len(sample.captions)
        self.tags += len(sample.tags)
        self.without_captions += not sample.captions
        self.without_tags += not sample.tags

    def _check(self, sample: Sample) -> None:
        if len(sample.captions) != len(sample.caption_tags):
            raise TrainingError(
                f"{sample.name!r} has {len(sample.captions)} captions and {len(sample.caption_tags)} lists of their "
                "tags; give one list for each caption"
            )
        for ids in (sample.tags, *sample.caption_tags):
            if ids and (min(ids) < 0 or max(ids) >= self.tag_count):
                wrong = next(each for each in ids if not 0 <= each < self.tag_count)
                raise TrainingError(
                    f"{sample.name!r} has tag id {wrong}, but the vocabulary has {self.tag_count} tags, 0 to "
                    f"{self.tag_count - 1}; use the vocabulary that the ids are of"
                )
            if len(ids) > self.tag_count:
                raise TrainingError(f"{sample.name!r} has {len(ids)} tags, more than there are; list each tag once")

    def __len__(self) -> int:
        return len(self._ends) // 2 - 1

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            raise IndexError(f"there are {len(self)} samples, not {index}")
        text_start, number_start, text_end, number_end = self._ends[2 * at : 2 * at + 4]
        name, *captions = self._texts[text_start:text_end].decode("utf-8", "surrogatepass").split("\0")
        numbers = self._numbers[number_start:number_end].tolist()
        lists, place = [], 0
        while place < len(numbers):
            following = place + 1 + numbers[place]
            lists.append(numbers[place + 1 : following])
            place = following
        return Sample(name, captions, lists[1:], lists[0])

    def name(self, index: int) -> str:
        """Return the name of one sample."""
        start, _, end, _ = self._ends[2 * index : 2 * index + 4]
        cut = self._texts.find(b"\0", start, end)
        return self._texts[start : end if cut < 0 else cut].decode("utf-8", "surrogatepass")

    @property
    def sha256(self) -> str:
        """Hash (hex) of all that is known."""
        digest = hashlib.sha256(self._numbers.typecode.encode())
        for part in (self._ends, self._numbers, self._texts):
            digest.update(memoryview(part).cast("B"))
        return digest.hexdigest()

    @property
    def held_bytes(self) -> int:
        """Bytes of memory that the samples take."""
        return sum(len(each) * memoryview(each).itemsize for each in (self._texts, self._numbers, self._ends))


class DataSet:
    """Images with what is known of them. ``read`` may be called from any thread.

    Attributes:
        name: of the set, for people.
        kind: of the files that it is from, for example ``official``.
        samples: what is known of each image. It must not change any more.
        left_out: images of which nothing is known, neither captions nor tags. They are no samples.
        about: what else the record of a training shall say of it.
    """

    def __init__(
        self,
        name: str,
        kind: str,
        samples: Samples,
        read: Callable[[int], bytes],
        left_out: int = 0,
    ) -> None:
        self.name, self.kind, self.samples, self.left_out = name, kind, samples, left_out
        self.about: dict[str, str | int] = {}
        self._read = read
        if not len(samples):
            reason = f"of {left_out} images neither captions nor tags are known" if left_out else "it has no images"
            raise TrainingError(f"{name} has nothing to learn from: {reason}")

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, index: int) -> bytes:
        """Return the file of one picture.

        Raises:
            ImageError: this picture cannot be read.
            TrainingError: no picture can be read at present.
        """
        return self._read(index)

    def describe(self) -> dict[str, Any]:
        """Return what the set has, for people and for the record of a training. ``sha256`` changes with any sample."""
        samples = self.samples
        return {
            "name": self.name,
            "kind": self.kind,
            "images": len(samples),
            "captions": samples.captions,
            "tags": samples.tags,
            "images_without_captions": samples.without_captions,
            "images_without_tags": samples.without_tags,
            "images_left_out": self.left_out,
            "sha256": samples.sha256,
            **self.about,
        }


def require_captions(dataset: DataSet, model: str) -> None:
    """Raise ``TrainingError`` if a model learns captions and there are none.

    RAM and RAM++ learn tags without captions too: what they learn from captions is then 0. Tag2Text learns the tags of
    captions alone.

    Args:
        dataset: the data.
        model: ``ram``, ``ram_plus`` or ``tag2text``.
    """
    if model == "tag2text" and dataset.samples.without_captions:
        count = dataset.samples.without_captions
        raise TrainingError(
            f"tag2text learns from captions, and {count} of the {len(dataset)} images of {dataset.name} have none; "
            "leave these out, or train ram or ram_plus"
        )


@dataclass(frozen=True, slots=True)
class Source:
    """Images from one path, before they are gathered.

    Attributes:
        name: the path, for people.
        kind: of its files.
        samples: what is known of each image, read once.
        read: returns the picture of a sample with content, by its number among these and its name.
    """

    name: str
    kind: str
    samples: Iterable[Sample]
    read: Callable[[int, str], bytes]


def has_content(sample: Sample) -> bool:
    """Return whether anything is known of an image."""
    return bool(sample.captions or sample.tags)


def gathered(sources: Sequence[Source], tag_count: int) -> DataSet:
    """Read all samples of sources, one source after the other, into one set. Those without content are left out."""
    samples, starts, left_out = Samples(tag_count), [], 0
    for source in sources:
        starts.append(len(samples))
        for sample in source.samples:
            if has_content(sample):
                samples.append(sample)
            else:
                left_out += 1

    def read(index: int) -> bytes:
        at = bisect_right(starts, index) - 1
        return sources[at].read(index - starts[at], samples.name(index))

    names = ", ".join(each.name for each in sources[:_NAMED])
    more = f" and {len(sources) - _NAMED} more" if len(sources) > _NAMED else ""
    kinds = " + ".join(dict.fromkeys(each.kind for each in sources))
    return DataSet(names + more, kinds, samples, read, left_out)
