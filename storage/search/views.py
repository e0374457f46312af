"""The parameters and the results of a search."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from storage.errors import UsageError
from storage.page import Page
from storage.search.language import parse
from storage.texts import fold

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from storage.results.reading_views import LineView
    from storage.results.region_views import Box
    from storage.results.views import TagView
    from storage.search.language.reading import Note
    from storage.search.language.tree import Expression


@dataclass(frozen=True, slots=True)
class FoundIn:
    """The place of an image in a ranking by the vectors of one space.

    Attributes:
        space: ``text``, ``look``, ….
        of: what images are compared with there; ``both``: what lies midway between a text and an image.
        rank: the place, from 1.
        similarity: the cosine of the vectors.
    """

    space: str
    of: Literal["text", "image", "both"]
    rank: int
    similarity: float


@dataclass(frozen=True, slots=True)
class Why:
    """Why a search by text or similarity found an image.

    Attributes:
        similarity: the cosine with the text, in the first space that compares it; None if none ranks the image by it.
        tags: the tags of the image that the text names.
        is_read: whether all words of the text stand in the image; ``Hit.read`` says in which lines.
        is_told: whether all words of the text stand in its keywords, title and description; ``Hit.told`` says where.
        spaces: the image's place in each space.
        added: the names of those of ``tags`` that a person added.
        removed: names of the tags that the text names and that a person removed, if the image has nothing else of what
            the text names.
    """

    similarity: float | None
    tags: list[int]
    is_read: bool = False
    spaces: tuple[FoundIn, ...] = ()
    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    is_told: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """What is said of an image in words, and that a search found.

    Attributes:
        source: ``person``: a keyword that a person gave it. ``keyword``, ``title`` and ``description``: in its file.
        text: the keyword, the title or the description.
        spans: where in ``text`` the words stand that were looked for, as ``ReadMatch.spans``; a keyword that was asked
            for as a whole has none.
    """

    source: Literal["person", "keyword", "title", "description"]
    text: str
    spans: list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class ReadMatch:
    """A line of text in an image that a search found, and the characters of the words that it looked for.

    Each span is where in ``line.text`` a stretch begins and ends, in characters from 0; ascending.
    """

    line: LineView
    spans: list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class RegionMatch:
    """A region in an image that a search found; ``number``, ``tag``, ``score`` and ``box`` as in ``RegionView``."""

    number: int
    tag: str
    score: float
    box: Box


@dataclass(frozen=True, slots=True)
class CropTag:
    """A tag that the model assigned to a region as a picture of its own, with its score 0..1."""

    name: str
    score: float


@dataclass(frozen=True, slots=True)
class HitRegion:
    """The region of an image that a search for regions found.

    Attributes:
        number: its place in the list of the image's regions, from 1.
        tag: what it is.
        box: left, top, right, bottom as fractions 0..1 of the upright picture.
        tags: what the model says about it as a picture of its own, highest score first.
    """

    number: int
    tag: str
    box: Box
    tags: list[CropTag]


@dataclass(frozen=True, slots=True)
class Hit:
    """One image that a search found, or one region of it.

    ``score`` is the number that ranks: for a text and a similar image the cosine similarity. A text in recognition's
    space adds, if the image has all tags that the text names, a share of their score, and 1 if all words of the text
    stand in the image, whose negative cosine then counts as 0. For several spaces together it is 0 to 1, 1 for the
    first of each. Without text and image it is the mean score of the tags of the query.
    ``tags`` are the assigned ones, highest score first. ``width`` and ``height`` are in pixels. ``missing_since`` is
    when a listing first did not find the original. ``duplicates`` is how many images have the same bytes, this one
    included; of images that were read before that was noted, it is 1. ``near_copies`` is how many are in its group of
    near copies, likewise. ``truncated`` says whether the file is cut short. ``page`` is the number of the page that it
    is, from 1, and ``pages`` how many its file has; None: one. ``file_key`` is the key of the file. ``captioner`` is
    the author of the caption, and ``caption_contradicts`` are the tags that people removed and that the caption of a
    model names.
    ``is_corrected`` says whether people changed the tags that the model gave, ``has_denied_tags`` whether a rule
    hides any of them.
    ``removed`` are the names, in lower case, of the tags that people removed. ``read`` are the lines of text in the
    image that match the search, at most five. ``regions`` are the regions in the image that the search is about: those
    of the tags of its ``count:`` and ``area:``. ``region`` is there in a search for regions like one: ``score`` is then
    the cosine similarity of the two regions, and an image may be there several times. ``taken_at`` is the date in the
    file, in a search that is ordered by it; ``score`` is then 0. ``keywords`` are the words that people gave the image,
    and ``told`` is what the search found in these, and in the keywords, the title and the description of its file; at
    most five.
    """

    image_id: int
    key: str
    archive: str
    score: float
    tags: list[TagView]
    caption: str | None
    generation_id: int
    width: int
    height: int
    missing_since: datetime | None = None
    duplicates: int = 1
    near_copies: int = 1
    truncated: bool = False
    page: int | None = None
    pages: int | None = None
    file_key: str = ""
    why: Why | None = None
    captioner: str | None = None
    is_corrected: bool = False
    has_denied_tags: bool = False
    removed: tuple[str, ...] = ()
    caption_contradicts: tuple[str, ...] = ()
    read: list[ReadMatch] = field(default_factory=list)
    regions: list[RegionMatch] = field(default_factory=list)
    region: HitRegion | None = None
    taken_at: datetime | None = None
    keywords: tuple[str, ...] = ()
    told: tuple[Told, ...] = ()

    @property
    def missing(self) -> bool:
        """Whether the last listing did not find the original."""
        return self.missing_since is not None


def counted(tags: Iterable[str]) -> list[tuple[str, int]]:
    """Return the names among ``tags``, each with how often it is there, most often first. Case does not matter."""
    by_name: dict[str, list[str]] = {}
    for tag in tags:
        by_name.setdefault(fold(tag), []).append(tag)
    return sorted(((same[0], len(same)) for same in by_name.values()), key=lambda pair: -pair[1])


@dataclass(frozen=True, slots=True)
class HitPage(Page[Hit]):
    """A page of hits.

    ``below`` is the number of further matches that are less similar than ``relevance`` requires; None without such a
    minimum, or far from the list's end. ``notes`` say how a text was read, if that may not be what was intended.
    ``space`` says which vectors ordered the hits: the names of spaces, joined by commas; None: none did. ``unranked``
    says of each space how many of the matching images have no vector there, if any. ``ended`` says of the last page why
    it is the last one, if further images match.
    """

    below: int | None = None
    space: str | None = None
    unranked: dict[str, int] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    ended: Note | None = None


@dataclass(frozen=True, slots=True)
class Facet:
    """A tag, and how many of the matching images have it assigned."""

    id: int
    name: str
    name_zh: str | None
    count: int


@dataclass(frozen=True, slots=True)
class Completion(Facet):
    """A tag that what is typed may become. ``by`` is the alternative or synonym that begins so, if its names do not."""

    by: str | None


@dataclass(frozen=True, slots=True)
class RegionFacet:
    """How many of the matching images have so many regions of a tag.

    Attributes:
        name: of the tag: as in the vocabulary, or in lower case if it is not there.
        name_zh: its Chinese name.
        count: the number of images.
        low: at least so many regions.
        high: at most so many regions; None: no limit.
        query: what narrows a search to these images, in the query language.
    """

    name: str
    name_zh: str | None
    count: int
    low: int
    high: int | None
    query: str


@dataclass(frozen=True, slots=True)
class RegionFacets:
    """The located tags of the matching images.

    Attributes:
        tags: those with any region, the most frequent first.
        numbers: if the search asks for the number of regions of a tag: the images by that number, 1 first.
    """

    tags: list[RegionFacet]
    numbers: list[RegionFacet]


@dataclass(frozen=True, slots=True)
class FileFacet:
    """How many of the matching images have something in common.

    Attributes:
        label: what, for people: ``2023-05``, ``NIKON D90``, ``s3://photos``, ``2023/summer/``.
        count: the number of images.
        query: what narrows a search to these images, in the query language.
    """

    label: str
    count: int
    query: str


@dataclass(frozen=True, slots=True)
class FileFacets:
    """The matching images by what their files say, and by their places.

    Attributes:
        step: what a bar of ``taken`` stands for: a ``year``; a ``month`` if all were taken in one year, and a ``day``
            if all were taken in one month.
        taken: the images by the date in their file, oldest first, without bars of 0.
        undated: how many have no date in their file.
        cameras: by the camera that their file names, most images first.
        archives: by archive, most images first; empty if they are in a remote index, and too many.
        folders: by the folder next below what all their keys have in common, in the order of their names; empty if
            there are more than a thousand, or as ``archives``.
        keywords: by keyword, whether it is in their files or a person gave it, most images first; empty if there are
            too many to count.
    """

    step: Literal["year", "month", "day"]
    taken: list[FileFacet]
    undated: int
    cameras: list[FileFacet]
    archives: list[FileFacet]
    folders: list[FileFacet]
    keywords: list[FileFacet] = field(default_factory=list)


class Faceted(NamedTuple):
    """A page of hits, and what all hits have in common; None: they are too many to count."""

    page: HitPage
    tags: list[Facet]
    regions: RegionFacets | None
    files: FileFacets | None


SORTS = ("taken", "taken-asc")
"""Orders beside relevance: by the date in the file, the newest first or the oldest."""


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """What to look for. Empty fields do not narrow the search.

    Attributes:
        text: free text, compared with the images' vectors.
        like: id of the image whose neighbours are wanted.
        unlike: ids of images that are not what is wanted. They are no hits, and what is more like them than the wanted
            image is further away.
        space: in which spaces the text and the image are compared: names of ``results.spaces.NAMES``, joined by
            commas; None: as configured for texts, and for images ``look`` if the image has such a vector, else
            ``text``.
        like_region: (image, number) of the region whose neighbours are wanted: the regions of the images that match.
        tags, any_tags, not_tags: names (English or Chinese) or ids; all, at least one, none of them.
        archive: the URI, or the id, of an archive; a URI below an archive narrows to that prefix.
        threshold: one threshold for every tag, in 0..1, instead of each tag's own.
        relevance: minimum relevance to the text: an image must be more similar than this share (0 to 1) of unrelated
            pairs of an image and a tag; 0: no minimum; None: ``ranking.DEFAULT_RELEVANCE``, or 0 if tags or an image
            are given as well. To an image: more similar than this share of the pairs of images; None: no minimum.
        sort: one of ``SORTS``; None: best first.
        cursor: ``next_cursor`` of the previous page.
        where: a further condition, from the query language.
        fold: whether of images with the same bytes only the first is a hit: of those that match, the one that was
            listed first.
        fold_near: whether of near copies only one is a hit too: of those that match, the one with the most pixels if
            it is among them.
        special: whether facets count of each image only the tags of which it has no kind: a dog, and no animal.
        generation: the generation to search, instead of the one that serves.
        read_for: the generation that the query was read for. It is searched even if another one serves by now, since
            the text's vector and the names of tags belong to it.
    """

    text: str | None = None
    like: int | None = None
    unlike: tuple[int, ...] = ()
    space: str | None = None
    like_region: tuple[int, int] | None = None
    tags: tuple[str, ...] = ()
    any_tags: tuple[str, ...] = ()
    not_tags: tuple[str, ...] = ()
    archive: str | None = None
    job: int | None = None
    prefix: str | None = None
    threshold: float | None = None
    relevance: float | None = None
    fold: bool = False
    fold_near: bool = False
    special: bool = False
    sort: str | None = None
    limit: int = 20
    cursor: str | None = None
    where: Expression | None = None
    generation: int | None = None
    read_for: int | None = None
    notes: tuple[Note, ...] = ()

    def after(self, cursor: str | None) -> SearchQuery:
        """Return the query for the page that begins at ``cursor``."""
        return replace(self, cursor=cursor)


def asking(query: SearchQuery, text: str | None) -> SearchQuery:
    """Return ``query``, narrowed by the conditions in ``text``.

    Raises:
        QuerySyntaxError: the text is not valid.
        UsageError: it names a different image to be similar to than ``query`` does.
    """
    if not text:
        return query
    parsed = parse(text)
    if query.like is not None and parsed.like not in {None, query.like}:
        raise UsageError(f"like:{parsed.like} and like={query.like} contradict each other: remove one")
    return replace(
        query,
        text=parsed.text,
        where=parsed.where,
        like=query.like if parsed.like is None else parsed.like,
        unlike=tuple(dict.fromkeys((*query.unlike, *parsed.unlike))),
        generation=parsed.generation,
    )
