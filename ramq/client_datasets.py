"""The part of the client that is about data sets."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel

from ramq.schemas.datasets import (
    DatasetDifferenceOut,
    DatasetOut,
    DatasetPictureOut,
    DatasetVersionOut,
    DeletedDatasetOut,
)
from ramq.schemas.views import PageOut

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Model = TypeVar("Model", bound=BaseModel)


class DatasetCalls:
    """Calls about data sets."""

    def _ask(
        self, model: type[Model], method: str, path: str, parameters: Mapping[str, object] | None = None, **sent: Any
    ) -> Model:
        raise NotImplementedError  # the client has it

    def build_dataset(
        self,
        name: str,
        sources: Sequence[str],
        *,
        caption_column: str | None = None,
        validation: float = 0.1,
        near: float | None = None,
        vocabulary: str | None = None,
    ) -> DatasetVersionOut:
        """Begin to build a data set, or its next version, from archives, searches and manifests of the server."""
        body = {
            "name": name,
            "sources": list(sources),
            "caption_column": caption_column,
            "validation": validation,
            "near": near,
            "vocabulary": vocabulary,
        }
        return self._ask(DatasetVersionOut, "POST", "/v1/datasets", json=body)

    def datasets(self) -> list[DatasetVersionOut]:
        """Return the data sets, each with its newest version."""
        return self._ask(PageOut[DatasetVersionOut], "GET", "/v1/datasets").items

    def dataset(self, name: str, version: int | None = None) -> DatasetOut:
        """Return a version with its counts and tags. None: the newest, done or not."""
        return self._ask(DatasetOut, "GET", f"/v1/datasets/{name}", {"version": version})

    def dataset_versions(self, name: str) -> list[DatasetVersionOut]:
        """Return the versions of a data set, in order."""
        return self._ask(PageOut[DatasetVersionOut], "GET", f"/v1/datasets/{name}/versions").items

    def dataset_picture(self, name: str, image_id: int, version: int | None = None) -> DatasetPictureOut:
        """Return what a version has of an image."""
        return self._ask(DatasetPictureOut, "GET", f"/v1/datasets/{name}/images/{image_id}", {"version": version})

    def compare_versions(self, name: str, old: int, new: int) -> DatasetDifferenceOut:
        """Compare the labels of two versions."""
        return self._ask(DatasetDifferenceOut, "GET", f"/v1/datasets/{name}/compare", {"old": old, "new": new})

    def correct_dataset(self, name: str) -> DatasetVersionOut:
        """Begin the next version, with the corrections that people made since the newest one."""
        return self._ask(DatasetVersionOut, "POST", f"/v1/datasets/{name}/correct")

    def steer_dataset(self, name: str, action: Literal["pause", "resume", "cancel"]) -> DatasetVersionOut:
        """Pause, resume or cancel the step that makes the newest version."""
        return self._ask(DatasetVersionOut, "POST", f"/v1/datasets/{name}/{action}")

    def delete_dataset(self, name: str) -> DeletedDatasetOut:
        """Delete a data set with all its versions."""
        return self._ask(DeletedDatasetOut, "DELETE", f"/v1/datasets/{name}")

    def wait_for_dataset(
        self, name: str, *, timeout_seconds: float | None = None, poll_seconds: float = 1.0
    ) -> DatasetVersionOut:
        """Wait until no step makes a version, and return the newest. Raises ``TimeoutError``; the step goes on then."""
        end = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while (version := self.dataset_versions(name)[-1]).state == "running":
            if end is not None and time.monotonic() + poll_seconds > end:
                raise TimeoutError(f"version {version.number} of {name} is in its phase {version.phase}")
            time.sleep(poll_seconds)
        return version
