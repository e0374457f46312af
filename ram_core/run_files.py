"""What the files of a training may say. Whatever else is in them is refused, and never reaches a page.

People copy folders of trainings, disks lose bytes, and several users may write to one. So a file is read only if it is
a regular one of a sane size, and its values are checked once, here.
"""

from __future__ import annotations

import os
import stat
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ram_core.errors import TrainingError

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 1 << 27  # of one file: the scalars of a thousand epochs
MAX_NOTE = 2_000  # characters

Count = Annotated[int, Field(ge=0, le=10**15)]
Amount = Annotated[float, Field(ge=0, le=1e15)]
Text = Annotated[str, Field(max_length=10_000)]
Note = Annotated[str, AfterValidator(lambda text: text[:MAX_NOTE])]
Setting = bool | int | float | str | None


class _Checked(BaseModel):
    """Of the types that are named, exactly; numbers are finite, and texts valid."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


class Parent(_Checked):
    """The weights that a training began with."""

    name: Text
    path: Text | None
    sha256: Text


class Data(_Checked):
    """What a training learns from. It may say more about it."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Setting]

    name: Text
    images: Count
    captions: Count


class About(_Checked):
    """``run.json``, as far as it is read."""

    model: Literal["ram", "ram_plus", "tag2text"]
    recipe: Text
    parent: Parent
    data: Data
    settings: dict[str, Setting | list[Setting]]
    epochs: Count
    steps: Count
    started_at: AwareDatetime


class StepLine(_Checked):
    """A line with the means of some steps."""

    kind: Literal["step"]
    epoch: Count
    step: Count
    learning_rate: float
    losses: dict[Text, float]
    images_per_second: Amount | None = None
    seconds_left: Amount | None = None


class ScoreLine(_Checked):
    """A line with a score."""

    kind: Literal["score"]
    epochs: Count
    validation_map: float


class StateLine(_Checked):
    """A line with a beginning or an end."""

    kind: Literal["state"]
    state: Literal["running", "finished", "stopped", "failed"]
    note: Note | None = None


Line = StepLine | ScoreLine | StateLine
_LINE: TypeAdapter[Line] = TypeAdapter(Annotated[Line, Field(discriminator="kind")])


def about_in(text: bytes) -> About:
    """Return what ``run.json`` says. Raises ``ValueError`` with one line."""
    try:
        return About.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(first_fault(error)) from error


def line_in(text: bytes) -> Line | None:
    """Return a line of ``scalars.jsonl``; None if it is none, for example because it was cut short."""
    try:
        return _LINE.validate_json(text)
    except ValidationError:
        return None


def first_fault(error: ValidationError) -> str:
    """Return the first thing that is wrong, in one line."""
    fault: Any = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(map(str, fault["loc"]))
    return f"{where}: {fault['msg']}" if where else str(fault["msg"])


def open_regular(path: Path, mode: Literal["rb", "ab"] = "rb", most: int = MAX_BYTES) -> IO[bytes]:
    """Open a file of a training.

    Raises:
        TrainingError: it is no regular file, such as a pipe, which could keep its reader waiting for ever, or it has
            more than ``most`` bytes.
        OSError: it cannot be opened.
    """
    stream = open(path, mode, opener=_opened)  # noqa: SIM115  (the caller closes it)
    found = os.fstat(stream.fileno())
    fault = None
    if not stat.S_ISREG(found.st_mode):
        fault = "is no regular file"
    elif found.st_size > most:
        fault = f"has {found.st_size:,} bytes, more than the limit of {most:,}"
    if fault is not None:
        stream.close()
        raise TrainingError(f"{path} {fault}; use another folder")
    return stream


def read_regular(path: Path) -> bytes:
    """Return the content of a file of a training. Raises as ``open_regular`` does."""
    with open_regular(path) as stream:
        return stream.read(MAX_BYTES)


def _opened(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
