"""The query language: the text of a query as a tree, before its names are resolved.

``beach (dog OR cat) -people archive:holiday score:dog>0.8 after:2024-01-01``
"""

from storage.search.language.parser import parse
from storage.search.language.tree import (
    AllOf,
    AnyOf,
    Expression,
    FieldName,
    FieldTerm,
    NotOf,
    Parsed,
    QuerySyntaxError,
    RegionTerm,
    TagTerm,
    all_of,
    any_of,
    not_of,
    pointer,
    wanted_fields,
    wanted_regions,
    wanted_tags,
)
from storage.search.language.writer import format, pieces  # noqa: A004  (the inverse of parse)

__all__ = [
    "AllOf",
    "AnyOf",
    "Expression",
    "FieldName",
    "FieldTerm",
    "NotOf",
    "Parsed",
    "QuerySyntaxError",
    "RegionTerm",
    "TagTerm",
    "all_of",
    "any_of",
    "format",
    "not_of",
    "parse",
    "pieces",
    "pointer",
    "wanted_fields",
    "wanted_regions",
    "wanted_tags",
]
