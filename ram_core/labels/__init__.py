"""The label system: from captions and lists to tags with synonyms, and from texts to the tags that they name.

* ``parser``: the tags that a text names; ``name_trie``, ``lemmas``, ``english``, ``negation`` and ``chinese`` serve it.
* ``label_file``: tags with their synonyms as a text file; ``synonyms`` finds these, with ``wordnet`` where it is there.
* ``candidates``: what captions name often; ``caption_files`` reads captions, also from ``tables``.
"""

from ram_core.labels.label_file import LabelGroup, LabelName, LabelSystem
from ram_core.labels.parser import NamedTag, TagParser

__all__ = ["LabelGroup", "LabelName", "LabelSystem", "NamedTag", "TagParser"]
