"""The part of the client that is about the data engine."""

from __future__ import annotations

from typing import Any

from ramq.client_datasets import DatasetCalls
from ramq.schemas.dataset_steps import CleanedTagOut
from ramq.schemas.datasets import DatasetVersionOut
from ramq.schemas.views import PageOut


class DatasetStepCalls(DatasetCalls):
    """Calls about data sets, with those about the data engine."""

    def generate_labels(
        self, name: str, *, model: str | None = None, captioner: str | None = None, version: int | None = None
    ) -> DatasetVersionOut:
        """Begin the next version of a data set, with captions and tags of a model. ``version``: its parent."""
        body = {"model": model, "captioner": captioner}
        return self._ask(DatasetVersionOut, "POST", f"/v1/datasets/{name}/generate", {"version": version}, json=body)

    def clean_labels(self, name: str, *, version: int | None = None, **cleaning: Any) -> DatasetVersionOut:
        """Begin the next version of a data set, without wrong tags.

        Args:
            name: of the data set.
            version: the parent; None: the newest that is done.
            **cleaning: fields of ``ramq.schemas.dataset_steps.NewCleaning``.
        """
        return self._ask(DatasetVersionOut, "POST", f"/v1/datasets/{name}/clean", {"version": version}, json=cleaning)

    def cleaned_tags(self, name: str, version: int | None = None) -> list[CleanedTagOut]:
        """Return what cleaning did to each tag."""
        return self._ask(PageOut[CleanedTagOut], "GET", f"/v1/datasets/{name}/cleaned", {"version": version}).items
