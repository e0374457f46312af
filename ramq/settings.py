"""The settings. They are read once, from the environment (prefix ``RAMQ_``) and the file named by ``RAMQ_CONFIG``."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from ramq.database_address import for_sqlalchemy
from ramq.user_of_system import user_of_system
from storage.errors import UsageError
from storage.objects.base import S3Options
from storage.results.nearness import MOST_DISTANCE, Thresholds
from storage.results.spaces import NAMES, TEXT
from storage.texts import without_secrets
from workers.messages import DETECTORS, MASKS, MODEL_NAME, READERS, SEGMENTERS, STAGE_MODELS

if TYPE_CHECKING:
    from collections.abc import Mapping

_STAGES = {"recognition", *STAGE_MODELS}
_SECRET = {"api_tokens", "webhook_url", "webhook_secret"}


def _default_data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME")
    if base:
        return Path(base) / "ramq"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "ramq"
    return Path.home() / ".local" / "share" / "ramq"


class Settings(BaseModel):
    """All settings. The name of a field is its variable's name without ``RAMQ_``, in lower case."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    data_dir: Path = Field(
        default_factory=_default_data_dir, description="folder of the embedded stack and of local files"
    )
    database_url: str | None = Field(None, repr=False, description="PostgreSQL; empty: the embedded one in data_dir")
    search_database_url: str | None = Field(
        None, repr=False, description="a standby of the database to use for search; empty: the database itself"
    )
    search_behind_seconds: float = Field(
        300.0, ge=1, le=3_600, description="how far the standby may be behind before searches read the database itself"
    )
    broker_url: str | None = Field(None, repr=False, description="Redis; empty: the embedded one in data_dir")
    index_url: str | None = Field(
        None, description="location of the index: file:///…, s3://… or milvus+http://…; empty: data_dir/index"
    )
    shadow_index_url: str | None = Field(None, description="likewise, of a second index to compare with; empty: none")
    shadow_index_share: float = Field(0.1, gt=0, le=1, description="share of searches that are compared with it")

    user: str = Field(default_factory=user_of_system, description="who says what is said on the command line")

    model: str = Field("lite", description="lite, ram, ram_plus, or a trained model such as ram_plus@birds")
    captioner: Literal["none", "template", "tag2text"] = "template"
    models_dir: Path | None = Field(None, description="checkpoints; empty: data_dir/models")
    training_dir: Path | None = Field(None, description="trainings; empty: data_dir/training")
    features: Literal["auto", "none", "global", "tokens", "pooled"] = Field(
        "auto",
        description="features that jobs keep for later tags; auto: pooled with lite (2 kB per image), none with ram "
        "and ram_plus (tokens: 75 kB)",
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    precision: Literal["auto", "float32", "bfloat16", "float16", "certified"] = Field(
        "auto", description="number format of recognition; auto: what suits the device; see docs/models.md"
    )
    compiled: bool = Field(False, description="GPU: compile RAM and RAM++; pays for large jobs; see docs/models.md")
    recorded: bool = Field(False, description="GPU: replay RAM and RAM++ as CUDA graphs; see docs/models.md")
    batch_size: int = Field(
        32, ge=1, le=1024, description="images per model call; up to three batches share a transaction"
    )

    stages: tuple[str, ...] = Field(
        ("recognition", *STAGE_MODELS),
        description=f"what a worker does, comma-separated: recognition, {', '.join(STAGE_MODELS)}; what is not "
        "installed is left out",
    )
    reader: str = Field("ppocr_v6", description="model that reads text in images; `ramq models list` shows the others")
    detector: str = Field("grounding-dino-tiny", description="model that finds boxes of tags; see `ramq models list`")
    segmenter: str = Field("sam-vit-base", description="model that makes masks of boxes; see `ramq models list`")
    look_model: str = Field(
        "", description="model that tells how images look; empty: that of recognition; see `ramq models list`"
    )
    siglip_model: str = Field("siglip2-base", description="tower of the space siglip, or a folder in models_dir")
    clip_model: str = Field("clip-vit-base-patch32-laion2b", description="tower of the space clip, likewise")
    dino_model: str = Field("dinov2-base", description="tower of the space dino, or a folder in models_dir")
    text_space: tuple[str, ...] = Field(
        (TEXT,),
        description="spaces in which texts are compared with images if a search names none, comma-separated: "
        f"{', '.join(NAMES)}",
    )
    locate_precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="number format of detector and segmenter; auto: bfloat16 on a GPU, float32 on a CPU"
    )
    look_precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="number format of what makes vectors of spaces; auto: as above, lite in float32"
    )
    mask_text: tuple[str, ...] = Field(
        (),
        description="kinds of text in pictures that are masked before they are stored, comma-separated; see "
        "docs/reading.md",
    )
    mask_pattern: str | None = Field(
        None, description="a regular expression; the text in pictures that it matches is masked too; empty: none"
    )

    shard_size: int = Field(256, ge=1, le=10_000, description="number of keys that are leased together")
    lease_seconds: float = Field(
        30.0, ge=1.0, description="another worker may take over a lease after this time without renewal"
    )
    grace_seconds: float = Field(75.0, ge=0.0, description="time to finish a batch when a worker is told to stop")
    fetch_threads: int = Field(16, ge=1, le=256, description="number of objects fetched at the same time")
    decode_threads: int = Field(
        default_factory=lambda: max(1, os.cpu_count() or 1),
        ge=1,
        le=256,
        description="number of images decoded at the same time; default: one per CPU",
    )
    max_object_bytes: int = Field(200_000_000, ge=1, description="larger objects are not fetched")
    max_pixels: int = Field(178_956_970, ge=1, description="images with more pixels are not decoded")
    pages_most: int = Field(1_000, ge=1, le=99_999, description="pages of one file that become images with `--pages`")
    near_distance: int = Field(MOST_DISTANCE, ge=0, le=MOST_DISTANCE, description="near copies: bits that may differ")
    near_cosine: float = Field(0.75, ge=-1, le=1, description="near copies: the least cosine of the vectors")
    watch_keep_days: int = Field(30, ge=0, description="days that ended jobs on events are kept; 0: for ever")
    truncated: Literal["refuse", "read"] = Field("refuse", description="what to do with pictures that are cut short")
    keep_place: bool = Field(True, description="whether to store where images were taken, as their files say")

    s3_endpoint_url: str | None = Field(None, description="URL of an S3-compatible server; empty: AWS")
    s3_addressing: Literal["auto", "path", "virtual"] = Field(
        "auto", description="addressing style of buckets: path, virtual, or auto (as the AWS config says)"
    )
    s3_requester_pays: tuple[str, ...] = Field(
        (), description="requester-pays buckets that may bill you, comma-separated: s3://bucket"
    )
    archive_allow: tuple[str, ...] = Field(
        (), description="roots of archives that jobs may read, comma-separated: s3://bucket/prefix, /folder"
    )
    write_allow: tuple[str, ...] = Field((), description="buckets for sidecars, comma-separated: s3://bucket/prefix")
    api_tokens: tuple[str, ...] = Field(
        (),
        repr=False,
        description="bearer tokens, comma-separated, each TOKEN or NAME:read|write|admin:TOKEN; "
        "TOKEN may be sha256:HEX",
    )
    rate_limit: int | None = Field(
        None, ge=0, description="requests per minute of a token or address; 0: unlimited; empty: 3000 if tokens are set"
    )
    webhook_url: str | None = Field(
        None, repr=False, description="URL to which workers post the end of each job; empty: none"
    )
    webhook_secret: str | None = Field(
        None, repr=False, description="key of the webhook's signature: whsec_ and the base64 of 24 bytes or more"
    )
    metrics_address: str | None = Field(
        None, description="host:port on which a worker serves its Prometheus metrics; empty: none"
    )
    traces: bool = Field(False, description="whether to send traces to an OpenTelemetry collector; see observing.md")
    trace_keys: bool = Field(False, description="whether traces hold the keys of images, not only their numbers")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="lowest level that is logged")

    @field_validator(
        "archive_allow", "write_allow", "s3_requester_pays", "api_tokens", "stages", "mask_text", "text_space",
        mode="before",
    )  # fmt: skip
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("s3_requester_pays")
    @classmethod
    def _whole_buckets(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            if not re.fullmatch(r"s3://[\w.-]{3,63}/?", entry):
                raise ValueError(f"{entry!r} is not a bucket; write s3://bucket, without a prefix")
        return value

    @field_validator("stages")
    @classmethod
    def _known_stages(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or not set(value) <= _STAGES:
            raise ValueError(f"choose from {', '.join(sorted(_STAGES))}")
        return value

    @field_validator("model")
    @classmethod
    def _model_name(cls, value: str) -> str:
        if not re.fullmatch(MODEL_NAME, value):
            raise ValueError("must be lite, ram, ram_plus, or a trained model such as ram_plus@birds")
        return value

    @field_validator("text_space")
    @classmethod
    def _known_spaces(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not set(value) <= set(NAMES):
            raise ValueError(f"choose from {', '.join(NAMES)}")
        return tuple(dict.fromkeys(value)) or (TEXT,)

    @field_validator("reader", "detector", "segmenter")
    @classmethod
    def _known_model(cls, value: str, info: ValidationInfo) -> str:
        known = {"reader": READERS, "detector": DETECTORS, "segmenter": SEGMENTERS}[info.field_name or ""]
        if value not in known:
            raise ValueError(f"choose one of {', '.join(known)}")
        return value

    @field_validator("mask_text")
    @classmethod
    def _known_masks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not set(value) <= set(MASKS):
            raise ValueError(f"choose from {', '.join(MASKS)}")
        return value

    @field_validator("mask_pattern")
    @classmethod
    def _pattern(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"is not a regular expression: {error}") from None
        return value

    @field_validator("api_tokens")
    @classmethod
    def _whole_hashes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for number, entry in enumerate(value, 1):
            # A mistyped hash would be accepted as a plain token, and anyone who reads the settings could use it.
            if "sha256:" in entry and not re.fullmatch(r"([\w.-]+:(read|write|admin):)?sha256:[0-9a-fA-F]{64}", entry):
                raise ValueError(f"entry {number}: write NAME:SCOPE:sha256:HEX, as `ramq token new NAME` prints it")
        return value

    @field_validator(
        "database_url", "search_database_url", "broker_url", "index_url", "shadow_index_url", "s3_endpoint_url",
        "models_dir", "training_dir", "metrics_address", "rate_limit", "webhook_url", "webhook_secret", "mask_pattern",
        mode="before",
    )  # fmt: skip
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("metrics_address")
    @classmethod
    def _host_and_port(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r".+:\d{1,5}", value):
            raise ValueError("must be host:port, for example 127.0.0.1:9100")
        return value

    @field_validator("webhook_url")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        parts = urlsplit(value or "")
        if value is not None and (parts.scheme not in {"http", "https"} or not parts.hostname or parts.username):
            raise ValueError("must be https://host/path, without a password; the signature identifies the sender")
        return value

    @field_validator("webhook_secret")
    @classmethod
    def _key(cls, value: str | None) -> str | None:
        # 24 bytes or more, as Standard Webhooks requires. Its libraries expect the key in this form.
        if value is not None and not re.fullmatch(
            r"whsec_(?:[A-Za-z0-9+/]{4}){8,}(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?", value
        ):
            raise ValueError(
                "must be whsec_ and a key in base64; create one with echo whsec_$(openssl rand -base64 32)"
            )
        return value

    @field_validator("database_url", "search_database_url")
    @classmethod
    def _psycopg(cls, value: str | None) -> str | None:
        return None if value is None else for_sqlalchemy(value)

    @property
    def models_path(self) -> Path:
        """The folder of checkpoints."""
        return self.models_dir or self.data_dir / "models"

    @property
    def training_path(self) -> Path:
        """The folder of trainings."""
        return self.training_dir or self.data_dir / "training"

    @property
    def cache_path(self) -> Path:
        """The folder of files that can be computed again: label embeddings, thumbnails."""
        return self.data_dir / "cache"

    @property
    def index_location(self) -> str:
        """The URL under which the index is published."""
        return self.index_url or (self.data_dir / "index").absolute().as_uri()

    @property
    def is_index_in_milvus(self) -> bool:
        """Whether the index is in Milvus instead of segments."""
        return self.index_location.startswith("milvus+")

    @property
    def index_files_location(self) -> str:
        """The URL of the folder with the files of the index and of kept image tokens."""
        if not self.is_index_in_milvus:
            return self.index_location
        named = parse_qs(self.index_location.partition("?")[2]).get("files")
        return named[0] if named else (self.data_dir / "index").absolute().as_uri()

    @property
    def stage_models(self) -> dict[str, str]:
        """The model of each further stage."""
        return {
            "text": self.reader,
            "locate": self.detector,
            "crops": self.model,
            "look": self.look_model or self.model,
            "siglip": self.siglip_model,
            "clip": self.clip_model,
            "dino": self.dino_model,
            "metadata": "file",
        }

    @property
    def s3(self) -> S3Options:
        """The options for access to buckets."""
        buckets = (entry.removeprefix("s3://").rstrip("/") for entry in self.s3_requester_pays)
        return S3Options(self.s3_endpoint_url, frozenset(buckets), self.s3_addressing)

    @property
    def near(self) -> Thresholds:
        """What near copies are."""
        return Thresholds(self.near_distance, self.near_cosine)

    @property
    def is_embedded(self) -> bool:
        """Whether the database and the broker are the embedded ones."""
        return self.database_url is None

    def public(self) -> dict[str, object]:
        """Return the effective values without passwords and tokens, so that they can be shown."""
        values: dict[str, object] = {}
        for name, value in self.model_dump(mode="json").items():
            if name in _SECRET:
                count = f"{len(value)} " if isinstance(value, list) else ""
                values[name] = f"{count}set" if value else "none set"
            else:
                values[name] = without_secrets(value) if isinstance(value, str) else value
        return values


_TOGETHER = (
    ("broker_url", "database_url", "set both, or neither for the embedded stack"),
    ("search_database_url", "database_url", "set both, or unset the former"),
    ("webhook_url", "webhook_secret", "set the secret, which signs deliveries"),
)
"""Settings that need another one."""


def _named(variables: Mapping[str, str | None]) -> dict[str, object]:
    """Return the values of the settings among ``variables``, by field. Names of variables may be in any case."""
    upper = {name.upper(): value for name, value in variables.items() if value is not None}
    return {field: upper[name] for field in Settings.model_fields if (name := f"RAMQ_{field.upper()}") in upper}


def load_settings(**overrides: object) -> Settings:
    """Read the settings.

    Arguments take precedence over the environment, and the environment over the file named by ``RAMQ_CONFIG``.

    Raises:
        UsageError: values are wrong. The message names them all, in one line.
    """
    given = _named(os.environ) | overrides
    config = os.environ.get("RAMQ_CONFIG")
    if config:
        if not Path(config).is_file():
            raise UsageError(f"RAMQ_CONFIG is {config}, which is not a file; set it to an existing file, or unset it")
        from dotenv import dotenv_values  # noqa: PLC0415  (few users have such a file)

        given = _named(dotenv_values(config)) | given
    try:
        settings = Settings.model_validate(given)
    except ValidationError as error:
        problems = "; ".join(
            f"RAMQ_{'_'.join(str(part) for part in problem['loc']).upper()}: "
            + problem["msg"].removeprefix("Value error, ")
            for problem in error.errors(include_input=False, include_url=False)
        )
        raise UsageError(f"settings: {problems}") from None
    for one, other, advice in _TOGETHER:
        if getattr(settings, one) is not None and getattr(settings, other) is None:
            raise UsageError(f"settings: RAMQ_{one.upper()} is set but RAMQ_{other.upper()} is not; {advice}")
    return settings
