"""Secrets of one data folder: generated once, kept in a file that only its owner may read."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from infra.local.errors import FolderError


@dataclass(frozen=True)
class Credentials:
    """Passwords of Redis and the S3 server."""

    redis_password: str
    s3_access_key: str
    s3_secret_key: str


def load_credentials(path: Path) -> Credentials:
    """Read the secrets at `path`; generate them if there are none.

    Raises:
        FolderError: the file exists but cannot be read.
    """
    if not path.exists():
        credentials = Credentials(secrets.token_hex(24), secrets.token_hex(10), secrets.token_hex(24))
        write_private(path, json.dumps(asdict(credentials), indent=1) + "\n")
        return credentials
    try:
        return Credentials(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise FolderError(
            f"{path} cannot be read ({error}). It holds the passwords of this data folder: restore the file."
        ) from error


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read. A reader sees the old text or the new, never a part."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(
        os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
    ) as file:
        file.write(text)
    draft.replace(path)
