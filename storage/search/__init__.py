"""Searching: from the text that somebody typed to a page of hits.

language   the text of a query, parsed to a tree, and written back
query      names and numbers in it looked up: a condition on the index, for one generation
orders     how hits are ordered: by tags, by vector, by text
ranking    which tags a text names;  relevance  where the list of a text's hits ends
search     the index's answer as hits, facets and totals;  hits  their rows in PostgreSQL
comparison two generations, tag by tag
"""
