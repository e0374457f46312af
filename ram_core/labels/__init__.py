"""The label system: from captions and lists to tags with synonyms, and from texts to the tags that they name.

* ``parser``: the tags that a text names; ``name_trie``, ``lemmas``, ``english``, ``negation`` and ``chinese`` serve it.
"""

from ram_core.labels.parser import NamedTag, TagParser

__all__ = ["NamedTag", "TagParser"]
