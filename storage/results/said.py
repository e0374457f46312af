"""Where people's words about images are kept, for those who give images another number or another place."""

from __future__ import annotations

BY_NAME = {"correction": "name", "dataset_review": "(dataset_id, tag_id)"}
"""Tables of what people said with one row for each of something, and the columns that name it: the newer row counts."""

ANYWHERE = ("line_correction", "region_correction")
"""Tables of what people said of places in a picture: rows are added."""

IN_DATASETS = ("dataset_item", "dataset_label")
"""Tables of the pictures in versions of data sets, with ``version_id``."""

_OF_PEOPLE = "\n    OR ".join(
    f"EXISTS (SELECT FROM {table} AS said WHERE said.image_id = image.id)"
    for table in (*BY_NAME, *ANYWHERE, "dataset_item")
)

OF_IMAGE = f"""(
    {_OF_PEOPLE}
    OR image.id IN (SELECT unnest(yes || no) FROM head))"""  # noqa: S608  (constants)
"""Whether people said anything of an ``image``."""
