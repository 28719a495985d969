"""`wastestream installation`: detects data loss in Redis and storage, and accepts it."""

from __future__ import annotations

from urllib.parse import urlsplit

from api.installation import COMMANDS, installation_of
from core.redis.installation import Installation
from core.settings import Settings
from infra.cli.target import target_group
from infra.local.environment import clean_environment


def _opened(settings: Settings) -> Installation:
    clean_environment(urlsplit(settings.s3_endpoint).hostname or "", aws=settings.s3_credentials == "aws")
    return installation_of(settings)


@target_group(_opened, COMMANDS)
def installation() -> None:
    """Report data loss in Redis and storage; continue with the remaining data.

    The command uses the stack of the data folder. With WASTESTREAM_REDIS_URL and without --data-dir, it uses
    the services that the environment names.
    """
