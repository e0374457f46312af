"""Templates, and their filters for numbers, times and keys with unsafe characters."""

from __future__ import annotations

import hashlib
import unicodedata
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context, select_autoescape
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse

from ramq.services.author import LOCAL
from ramq.services.quotas import shown
from ramq.services.special_tags import special_first
from ramq.web.callers import NOBODY, caller_in
from ramq.web.curves import curves
from ramq.web.overlay import corners, points
from ramq.web.regions_overlay import card, numbers
from storage.objects.ignoring import REASONS
from storage.objects.pages import PAGE_NAME
from storage.search.language.writer import filter_text, tag_text
from storage.search.views import Told
from storage.texts import plural, without_unseen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from jinja2.runtime import Context
    from starlette.requests import HTTPConnection

    from ramq.schemas.problem import Problem
    from ramq.web.callers import Callers
    from storage.search.views import ReadMatch, Why

WEB = Path(__file__).resolve().parent
STATIC = WEB / "static"
# Characters that are invisible, or change the direction of the text. They are shown by their code point instead.
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_EMOJI_PARTS = frozenset("\u200d\ufe0f\ufe0e")
_SPACES = {"text": "content", "look": "look", "siglip": "SigLIP", "clip": "CLIP", "dino": "DINO"}
_OF = {"text": "the text", "image": "the image", "both": "text and image"}
EXCERPT = 80
"""Characters of a line of text that a hit shows."""
# In text, unlike in keys, a non-joiner is a part of words, for example Persian ones.
_TEXT_PARTS = _EMOJI_PARTS | {"\u200c"}


def visible(text: str) -> Markup:
    """Return ``text`` as HTML in which control characters and direction marks appear as visible boxes."""
    # All parts are HTML. `Markup.format` would take longer, and a page has a hundred keys.
    return Markup('<bdi dir="ltr" class="key">') + _with_visible_characters(text, _EMOJI_PARTS) + Markup("</bdi>")


def _visible_character(character: str, allowed: frozenset[str]) -> Markup:
    is_hidden = unicodedata.category(character) in _HIDDEN_CATEGORIES and character not in allowed
    if not is_hidden:
        return escape(character)
    code = ord(character)
    label = repr(character)[1:-1] if code < 0x20 else f"U+{code:04X}"
    return Markup('<span class="hidden-char" title="U+{:04X}">{}</span>').format(code, label)


def written(text: str, spans: Iterable[tuple[int, int]] = ()) -> Markup:
    """Return a line of text in a picture as HTML, in its own direction.

    Args:
        text: the line. Anybody may have written it.
        spans: the first character of each marked part, and the one after it. They do not overlap.
    """
    parts, at = [], 0
    for begin, end in spans:
        marked = Markup("<mark>{}</mark>").format(_with_visible_characters(text[begin:end], _TEXT_PARTS))
        parts += [_with_visible_characters(text[at:begin], _TEXT_PARTS), marked]
        at = end
    parts.append(_with_visible_characters(text[at:], _TEXT_PARTS))
    return Markup('<bdi dir="auto">{}</bdi>').format(Markup("").join(parts))


def excerpt(match: ReadMatch | Told) -> Markup:
    """Return a line that a search found as HTML, with its words marked. A long line is cut around the first of them."""
    text, spans = match.text if isinstance(match, Told) else match.line.text, match.spans
    if len(text) <= EXCERPT:
        return written(text, spans)
    first = max(0, spans[0][0] - EXCERPT // 4)
    begin = text.find(" ", first, spans[0][0]) + 1 or first if first else 0
    end = begin + EXCERPT
    shown = text[begin:end]
    inside = [(start - begin, min(stop, end) - begin) for start, stop in spans if start < end]
    return Markup("{}{}{}").format("… " if begin else "", written(shown, inside), " …" if end < len(text) else "")


def _with_visible_characters(text: str, allowed: frozenset[str]) -> Markup:
    if text.isprintable():  # true for nearly all texts
        return escape(text)
    return Markup("").join(_visible_character(character, allowed) for character in text)


def plain(text: str) -> str:
    """Return ``text`` for attributes and titles, with hidden characters as escapes."""
    if text.isprintable():
        return text
    return "".join(
        character
        if unicodedata.category(character) not in _HIDDEN_CATEGORIES or character in _EMOJI_PARTS
        else f"\\u{ord(character):04x}"
        for character in text
    )


def file_name(key: str) -> str:
    """Return the last part of ``key``, of a page of a file with the name of the file."""
    if len(parts := key.rsplit("/", 2)) > 1 and PAGE_NAME.fullmatch(parts[-1]):
        return "/".join(parts[-2:])
    return key.rstrip("/").rpartition("/")[2] or key


def number(value: float) -> str:
    """Return a count with thousands separators, or a rate with a sensible number of digits."""
    if isinstance(value, int) or value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def duration(seconds: float) -> str:
    """Return ``seconds`` in the two largest units that fit, for example ``3 min 20 s``."""
    whole = round(seconds)
    units = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
    for index, (unit, size) in enumerate(units):
        if whole >= size:
            rest = whole % size // units[index + 1][1] if size > 1 else 0
            return f"{whole // size} {unit}" + (f" {rest} {units[index + 1][0]}" if rest else "")
    return "0 s"


def size(count: int) -> str:
    """Return a number of bytes in a readable unit."""
    value = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            if unit == "bytes":
                return plural(count, "byte")
            return f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def moment(value: datetime) -> Markup:
    """Return a ``<time>`` element in UTC."""
    value = value.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(value.isoformat(), value.strftime("%Y-%m-%d %H:%M:%S UTC"))


def stage(name: str) -> str:
    """Return the display name of a stage of the pipeline."""
    return {"infer": "inference"}.get(name, name)


def person(name: str, present: str, *, is_local: bool = True) -> str:
    """Return the display name of the author of a change.

    Args:
        name: that was noted then.
        present: the name that this user has now.
        is_local: whether who looks needs no token, and so is the local user.
    """
    if name == LOCAL:
        return "you" if is_local else "the local user"
    return name if name == present else f"{present} ({name} then)"


def term(name: str) -> str:
    """Return the name of a tag as it is written after ``tag:``, ``-`` or OR."""
    return tag_text(name, is_top=False)


def keyword_search(word: str) -> str:
    """Return the address of the search for the images with a keyword."""
    return f"/?{urlencode({'q': filter_text('keyword', word)})}"


def space_names(spaces: str) -> str:
    """Return the display names of spaces, which are given with commas between them."""
    return " + ".join(_SPACES.get(space, space) for space in spaces.split(","))


def why_found(why: Why) -> str:
    """Return in words where each space ranks a hit, and what people said of it."""
    said = ["its keywords, title or description have the words"] if why.is_told else []
    said += [f"a person added {', '.join(why.added)}"] if why.added else []
    said += [f"a person removed {', '.join(why.removed)}"] if why.removed else []
    places = (
        f"{space_names(one.space)}: number {one.rank:,}, similarity to {_OF[one.of]} {one.similarity:.2f}"
        for one in why.spaces
    )
    return "; ".join((*places, *said))


class Templates:
    """Renders templates. One per application.

    Args:
        callers: finds out who sends a request.
        has_trainings: whether there are trainings to show.
    """

    def __init__(self, callers: Callers, *, has_trainings: Callable[[], bool] = lambda: False) -> None:

        @pass_context
        def named(context: Context, name: str) -> str:
            caller = context.get("caller", NOBODY)
            return person(name, callers.present_name(name), is_local=not caller.needs_token)

        self._environment = Environment(
            loader=FileSystemLoader(WEB / "templates"),
            autoescape=select_autoescape(default=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {
            "visible": visible,
            "written": written,
            "excerpt": excerpt,
            "corners": corners,
            "box_numbers": numbers,
            "card": card,
            "points": points,
            "plain": plain,
            "without_unseen": without_unseen,
            "file_name": file_name,
            "number": number,
            "duration": duration,
            "size": size,
            "moment": moment,
            "plural": plural,
            "term": term,
            "keyword_search": keyword_search,
            "stage": stage,
            "person": named,
            "amount": shown,
            "special_first": special_first,
            "curves": curves,
            "space_names": space_names,
            "why_found": why_found,
            "ignored_reason": lambda reason: REASONS.get(reason, reason),
        }
        # URLs of static files change with their content, so that browsers may cache them without limit.
        stamps = {file.name: hashlib.sha256(file.read_bytes()).hexdigest()[:12] for file in STATIC.iterdir()}
        self._environment.globals |= {
            "static": lambda name: f"/static/{name}?v={stamps[name]}",
            "version": version("ramq"),
            "has_trainings": has_trainings,
        }

    def show(self, request: HTTPConnection, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
        """Return the page ``template`` with the actions that ``request`` may take. Live data must not be cached."""
        caller = caller_in(request)
        context |= {"path": request.url.path, "may": caller.may, "caller": caller, "token": caller.token}
        html = self._environment.get_template(template).render(context)
        return HTMLResponse(html, status_code=status, headers={"Cache-Control": "no-store"})

    def show_problem(self, request: HTTPConnection, problem: Problem) -> HTMLResponse:
        """Return the page that shows ``problem``."""
        return self.show(request, "problem.html", status=problem.status, problem=problem)
