"""What forms for searches can offer."""

from __future__ import annotations

from typing import NamedTuple


class Offers(NamedTuple):
    """What a form for a search can offer.

    Attributes:
        examples: the names of three tags of the generation in use, for example queries.
        spaces: those that images have vectors in; ``text`` is always one of them.
        spaces_of_texts: those of them that texts can be compared with.
    """

    examples: tuple[str, ...]
    spaces: tuple[str, ...]
    spaces_of_texts: tuple[str, ...]
