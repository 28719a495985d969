"""The environment that the stack's processes inherit."""

from __future__ import annotations

import os

import pytest

from infra.local.environment import clean_environment


def test_settings_of_other_storage_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own AWS session or rclone defaults do not reach the stack; the rest does."""
    environment = {"AWS_SESSION_TOKEN": "x", "RCLONE_READ_ONLY": "true", "no_proxy": "intranet", "LANG": "C"}
    monkeypatch.setattr(os, "environ", environment)
    clean_environment("127.0.0.1", "10.0.0.5")
    assert environment == {
        "LANG": "C",
        "no_proxy": "intranet,127.0.0.1,10.0.0.5",
        "NO_PROXY": "127.0.0.1,10.0.0.5",
    }
