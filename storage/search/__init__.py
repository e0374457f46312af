"""Search: from the text that somebody typed to a page of hits.

language   parse the text of a query to a tree, and write it back
query      resolve names and numbers in it to a condition on the index, for one generation
orders     how hits are ordered: by tags, by vector, by text;  ordering  which of them a query takes
compared   which vectors a text and an image are compared with;  fusion  the orders of several spaces as one
listed     the first images of an order by a vector;  why  why it has an image
spoken     what people said of the tags that a text names
ranking    how a text ranks;  relevance  the minimum similarity to a text or an image
search     the index's answer as hits, facets and totals;  hits  their rows in PostgreSQL;  pages  some of them
like_region  regions like one
in_file    filters on what files say;  by_date  hits in the order of their dates;  file_facets  how many say the same
cursors    positions at the ends of pages
kept_images, kept_regions, kept_metadata  what a process keeps of text and regions in pictures, and of their files
comparison two generations, tag by tag
"""
