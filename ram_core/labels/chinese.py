"""Names of tags in Chinese text: longest match on characters, since no spaces part its words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HAN = re.compile("[㐀-鿿豈-﫿]+")

# Characters of grammar. A name of one character counts only between these, other names and the ends of a phrase: the
# character is part of another word otherwise.
_GRAMMAR = frozenset(
    "的地得了着过在和与及或是有没无不把被给对从向往到上下里中内外前后旁边间旁这那其之于以而并也都就只个条张头匹辆件位名"
    "群朵棵杯碗盘片块座栋幅艘架双串本部台根支把顶间家所面扇盏盆瓶罐箱袋包堆排队对一二两三四五六七八九十几多些各每某大小老新高"
)
_NOT = re.compile("没有|没|无|不是|不|并非|非|未")
_NEGATED_JOINS = re.compile("(?:任何|一|个|只|条|张|辆|匹|头|位|名|人|和|或|与|、|者|在|穿|戴)*")


class ChineseNames:
    """Chinese names and the tags that each names.

    Args:
        names: pairs of a name and its tag.
    """

    def __init__(self, names: Iterable[tuple[str, int]]) -> None:
        self._ids: dict[str, tuple[int, ...]] = {}
        for name, tag_id in names:
            known = self._ids.get(name, ())
            if tag_id not in known:
                self._ids[name] = (*known, tag_id)
        self._longest = max(map(len, self._ids), default=0)

    def find(self, text: str) -> list[tuple[int, int, int]]:
        """Return (id, start, end) of the names in a text that are not negated, in order."""
        found: list[tuple[int, int, int]] = []
        if self._ids:
            for phrase in HAN.finditer(text):
                found += self._in_phrase(text, phrase.start(), phrase.end())
        return found

    def _in_phrase(self, text: str, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        at, matched_to, negated_to = start, start, start - 1
        while at < end:
            name_end = self._name_at(text, at, end, matched_to)
            if name_end:
                if at > negated_to:
                    yield from ((tag_id, at, name_end) for tag_id in self._ids[text[at:name_end]])
                else:  # a list goes on: no cars and people
                    joins = _NEGATED_JOINS.match(text, name_end, end)
                    negated_to = joins.end() if joins and joins.end() > name_end else name_end - 1
                at = matched_to = name_end
            elif negation := _NOT.match(text, at, end):
                joins = _NEGATED_JOINS.match(text, negation.end(), end)
                at = negation.end()
                negated_to = joins.end() if joins else at
            else:
                at += 1

    def _name_at(self, text: str, start: int, end: int, matched_to: int) -> int:
        """Return where the longest name at ``start`` ends, 0 if there is none."""
        for stop in range(min(end, start + self._longest), start, -1):
            if text[start:stop] in self._ids and (stop - start > 1 or self._stands_alone(text, start, end, matched_to)):
                return stop
        return 0

    def _stands_alone(self, text: str, at: int, end: int, matched_to: int) -> bool:
        before, after = text[at - 1 : at], text[at + 1 : at + 2]
        if at != matched_to and before not in _GRAMMAR and HAN.match(before):
            return False
        return at + 1 == end or after in _GRAMMAR or self._name_at(text, at + 1, end, at + 1) > 0
