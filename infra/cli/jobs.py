"""`wastestream jobs`: jobs of the stack on this machine, or of other services."""

from __future__ import annotations

from urllib.parse import urlsplit

from api.jobs import COMMANDS, services_of
from api.services import Services
from core.settings import Settings
from infra.cli.target import target_group
from infra.local.environment import clean_environment


def _opened(settings: Settings) -> Services:
    clean_environment(urlsplit(settings.s3_endpoint).hostname or "", aws=settings.s3_credentials == "aws")
    return services_of(settings)


@target_group(_opened, COMMANDS)
def jobs() -> None:
    """List jobs; retry failed and expired ones.

    They belong to the stack that runs on the data folder. With WASTESTREAM_REDIS_URL and without --data-dir,
    they belong to the services that the environment names.
    """
