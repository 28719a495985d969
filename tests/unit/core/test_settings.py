"""core.settings: values from the environment; a wrong one is named, a secret never shown."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

import pytest
from pydantic import SecretStr

from core.errors import SettingsError
from core.settings import PREFIX, Settings, load_settings
from tests.support.servers import REPOSITORY


@pytest.fixture(autouse=True)
def _fresh() -> None:
    load_settings.cache_clear()


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable changes its field; the others keep their defaults."""
    monkeypatch.setenv("WASTESTREAM_MAX_BATCH", "8")
    assert load_settings().max_batch == 8
    assert load_settings().port == 8000


def test_every_wrong_variable_is_named_and_no_secret_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the wrong variables, without their values."""
    monkeypatch.setenv("WASTESTREAM_PORT", "hunter2")
    monkeypatch.setenv("WASTESTREAM_S3_ENDPOINT", "ftp://secret@host")
    with pytest.raises(SettingsError, match=r"WASTESTREAM_\w+.*WASTESTREAM_\w+") as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("rate", ["-1", "nan", "inf", "1e-9", "2000000"])
def test_an_impossible_rate_is_named(monkeypatch: pytest.MonkeyPatch, rate: str) -> None:
    """The message says what is possible."""
    monkeypatch.setenv("WASTESTREAM_KEY_RATE", rate)
    with pytest.raises(SettingsError, match=r"WASTESTREAM_KEY_RATE.*0 for no limit, or from 0\.001"):
        load_settings()


def test_no_traceback_shows_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does the error that the sentence was made of: Celery's tools print both."""
    monkeypatch.setenv("WASTESTREAM_REDIS_URL", "redis://:hunter2/@localhost:6379/0")
    with pytest.raises(SettingsError, match=r"WASTESTREAM_REDIS_URL.*percent-encode") as caught:
        load_settings()
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_an_authority_of_storage_is_a_file_with_certificates(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One that cannot be read ends the program at once; an empty variable is none."""
    monkeypatch.setenv("WASTESTREAM_S3_CA_FILE", "")
    assert load_settings().s3_ca_file is None
    (tmp_path / "ca.pem").write_text("no certificate")
    for name in ("ca.pem", "nowhere.pem"):
        monkeypatch.setenv("WASTESTREAM_S3_CA_FILE", str(tmp_path / name))
        load_settings.cache_clear()
        with pytest.raises(SettingsError, match=rf"WASTESTREAM_S3_CA_FILE.*{name} holds no certificate"):
            load_settings()


def test_secrets_are_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither str nor repr shows a password."""
    monkeypatch.setenv("WASTESTREAM_REDIS_URL", "redis://:hunter2@localhost:6379/0")
    assert "hunter2" not in repr(load_settings())


_ROW = re.compile(rf"^\| `{PREFIX}(\w+)` \|(?: `(.+?)`)? \| (.+) \|$", flags=re.MULTILINE)


def test_every_setting_is_documented() -> None:
    """docs/settings.md has a row for each field, with its default; it begins with its description."""
    page = (REPOSITORY / "docs" / "settings.md").read_text(encoding="utf-8")
    rows = {name.lower(): (default, meaning) for name, default, meaning in _ROW.findall(page)}
    assert rows.keys() == Settings.model_fields.keys()
    for name, field in Settings.model_fields.items():
        default, meaning = rows[name]
        assert default == _written(field.default)
        assert f"{meaning}.".startswith(str(field.description)), name


def _written(default: object) -> str:
    """Return a default as the page has it: paths from the repository, whole numbers without a point."""
    match default:
        case SecretStr():
            return default.get_secret_value()
        case Path():
            return str(default.relative_to(REPOSITORY))
        case float():
            return f"{default:g}"
        case None | ():
            return ""
        case _:
            return str(default)
