from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from ramq.settings import load_settings
from storage.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("RAMQ_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))


def test_without_any_setting_everything_is_embedded_below_the_users_data_folder(tmp_path: Path) -> None:
    settings = load_settings()
    assert settings.is_embedded
    assert settings.data_dir == tmp_path / "ramq"
    assert settings.models_path == tmp_path / "ramq" / "models"
    assert settings.index_location == (tmp_path / "ramq" / "index").as_uri()
    assert settings.model == "lite"


def test_arguments_win_over_the_environment_and_the_environment_over_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "ramq.env"
    config.write_text("RAMQ_BATCH_SIZE=1\nRAMQ_SHARD_SIZE=2\nRAMQ_FETCH_THREADS=3\n")
    monkeypatch.setenv("RAMQ_CONFIG", str(config))
    monkeypatch.setenv("RAMQ_BATCH_SIZE", "10")
    monkeypatch.setenv("RAMQ_SHARD_SIZE", "20")
    settings = load_settings(batch_size=100)
    assert (settings.batch_size, settings.shard_size, settings.fetch_threads) == (100, 20, 3)


def test_a_configuration_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAMQ_CONFIG", str(tmp_path / "nowhere.env"))
    with pytest.raises(UsageError, match=r"nowhere\.env, which is not a file"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RAMQ_MODEL", "resnet"),
        ("RAMQ_BATCH_SIZE", "0"),
        ("RAMQ_BATCH_SIZE", "many"),
        ("RAMQ_CAPTIONER", "poet"),
        ("RAMQ_LEASE_SECONDS", "-1"),
        ("RAMQ_DATABASE_URL", "mysql://localhost/ramq"),
        ("RAMQ_LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=rf"^settings: {name}: ") as refused:
        load_settings()
    assert "\n" not in str(refused.value)


def test_all_wrong_values_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAMQ_BATCH_SIZE", "0")
    monkeypatch.setenv("RAMQ_SHARD_SIZE", "0")
    with pytest.raises(UsageError, match=r"RAMQ_BATCH_SIZE.*RAMQ_SHARD_SIZE"):
        load_settings()


def test_a_password_in_a_wrong_value_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAMQ_DATABASE_URL", "mysql://ramq:hunter2@db/ramq")
    with pytest.raises(UsageError) as refused:
        load_settings()
    assert "hunter2" not in str(refused.value)


def test_empty_variables_count_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "BROKER_URL", "INDEX_URL", "S3_ENDPOINT_URL", "MODELS_DIR"):
        monkeypatch.setenv(f"RAMQ_{name}", "")
    settings = load_settings()
    assert settings.is_embedded
    assert settings.models_path == settings.data_dir / "models"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_usual_spelling_of_a_postgres_url_is_taken(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    monkeypatch.setenv("RAMQ_DATABASE_URL", f"{scheme}://ramq@db/ramq")
    assert load_settings().database_url == "postgresql+psycopg://ramq@db/ramq"


def test_a_broker_without_a_database_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAMQ_BROKER_URL", "redis://localhost")
    with pytest.raises(UsageError, match="RAMQ_DATABASE_URL is not"):
        load_settings()


def test_lists_are_separated_by_commas_and_may_be_untidy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAMQ_API_TOKENS", " one, two ,,")
    monkeypatch.setenv("RAMQ_ARCHIVE_ALLOW", "s3://photos,/srv/pictures")
    settings = load_settings()
    assert settings.api_tokens == ("one", "two")
    assert settings.archive_allow == ("s3://photos", "/srv/pictures")


@pytest.mark.parametrize(
    "entry", ["sha256:0", f"sha256:{'0' * 63}", f"ann:reed:sha256:{'0' * 64}", f"sha256:{'g' * 64}"]
)
def test_a_mistyped_hash_is_refused_and_does_not_become_a_token(monkeypatch: pytest.MonkeyPatch, entry: str) -> None:
    monkeypatch.setenv("RAMQ_API_TOKENS", f"one,{entry}")
    with pytest.raises(UsageError, match=r"RAMQ_API_TOKENS: .*entry 2: .*`ramq token new NAME`") as refused:
        load_settings()
    assert entry not in str(refused.value)


def test_whole_hashes_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAMQ_API_TOKENS", f"sha256:{'0' * 64},ann:read:sha256:{'aF' * 32}")
    assert len(load_settings().api_tokens) == 2


def test_the_buckets_that_we_pay_for_are_named_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().s3.requester_pays == frozenset()
    monkeypatch.setenv("RAMQ_S3_REQUESTER_PAYS", "s3://photos, s3://maps.example/")
    assert load_settings().s3.requester_pays == {"photos", "maps.example"}


@pytest.mark.parametrize("entry", ["s3://photos/2024", "photos", "s3://", "*", "/srv/pictures"])
def test_only_whole_buckets_can_be_paid_for(monkeypatch: pytest.MonkeyPatch, entry: str) -> None:
    monkeypatch.setenv("RAMQ_S3_REQUESTER_PAYS", f"s3://fine,{entry}")
    with pytest.raises(UsageError, match=r"RAMQ_S3_REQUESTER_PAYS: .* write s3://bucket"):
        load_settings()


HOOK, KEY = "https://hooks.example/T0/hunter7?key=hunter8", "whsec_hunter9hunter9hunter9hunter9hunter9A"


def test_a_webhook_needs_a_secret_and_neither_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAMQ_WEBHOOK_URL", HOOK)
    with pytest.raises(UsageError, match="RAMQ_WEBHOOK_SECRET"):
        load_settings()
    monkeypatch.setenv("RAMQ_WEBHOOK_SECRET", KEY)
    settings = load_settings()
    assert (settings.webhook_url, settings.webhook_secret) == (HOOK, KEY)
    assert "hunter" not in f"{settings!r} {settings.public()}"
    assert settings.public()["webhook_secret"] == "set"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RAMQ_WEBHOOK_URL", "hooks.example"),
        ("RAMQ_WEBHOOK_URL", "ftp://hooks.example/"),
        ("RAMQ_WEBHOOK_URL", "https:///hunter7"),
        ("RAMQ_WEBHOOK_URL", "https://ann:hunter7@hooks.example/"),
        ("RAMQ_WEBHOOK_SECRET", "hunter7"),
        ("RAMQ_WEBHOOK_SECRET", "whsec_hunter7"),
        ("RAMQ_WEBHOOK_SECRET", f"{KEY}!"),
        ("RAMQ_WEBHOOK_SECRET", f"{KEY}a"),
        ("RAMQ_WEBHOOK_SECRET", f"{KEY}aa="),
    ],
)
def test_a_webhook_that_could_not_work_is_refused_without_repeating_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv("RAMQ_WEBHOOK_URL", HOOK)
    monkeypatch.setenv("RAMQ_WEBHOOK_SECRET", KEY)
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=f"^settings: {name}: ") as refused:
        load_settings()
    assert "hunter" not in str(refused.value)


def test_what_is_shown_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAMQ_DATABASE_URL", "postgresql://ramq:hunter2@db/ramq")
    monkeypatch.setenv("RAMQ_BROKER_URL", "redis://:hunter3@redis/0")
    monkeypatch.setenv("RAMQ_API_TOKENS", "hunter4,hunter5")
    settings = load_settings()
    shown = f"{settings!r} {settings.public()}"
    assert "hunter" not in shown
    assert "2 set" in shown
    assert "db/ramq" in shown


def test_settings_do_not_change_once_they_are_read() -> None:
    with pytest.raises(ValidationError):
        load_settings().batch_size = 1  # type: ignore[misc]  # the very thing that must not work


def test_the_spaces_of_texts_are_named_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().text_space == ("text",)
    monkeypatch.setenv("RAMQ_TEXT_SPACE", "text, siglip,text")
    assert load_settings().text_space == ("text", "siglip")
    for none in ("", " ", ","):
        monkeypatch.setenv("RAMQ_TEXT_SPACE", none)
        assert load_settings().text_space == ("text",)
    for wrong in ("smell", "text,smell"):
        monkeypatch.setenv("RAMQ_TEXT_SPACE", wrong)
        with pytest.raises(UsageError, match="text, look, siglip, clip, dino"):
            load_settings()
