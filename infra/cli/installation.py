"""`wastestream installation`: whether Redis and storage have lost data, and beginning anew after that."""

from __future__ import annotations

from urllib.parse import urlsplit

from api.installation import COMMANDS, installation_of
from core.installation import Installation
from core.settings import Settings
from infra.cli.target import target_group
from infra.local.environment import clean_environment


def _opened(settings: Settings) -> Installation:
    clean_environment(urlsplit(settings.s3_endpoint).hostname or "")
    return installation_of(settings)


@target_group(_opened, COMMANDS)
def installation() -> None:
    """Say whether Redis and storage have lost data; begin anew with what is there.

    They belong to the stack that runs on the data folder or, where WASTESTREAM_REDIS_URL is set and no
    --data-dir is given, are those that the environment names.
    """
