"""`wastestream backup`: copies the stack on this machine, or other Redis and storage, while it runs."""

from __future__ import annotations

from urllib.parse import urlsplit

from api.backup.command import backup as command
from core.settings import Settings
from infra.cli.target import target_command
from infra.local.environment import clean_environment


def opened(settings: Settings) -> Settings:
    """Return the settings, after a look at the environment: variables of other storage must not join them."""
    clean_environment(urlsplit(settings.s3_endpoint).hostname or "", aws=settings.s3_credentials == "aws")
    return settings


backup = target_command(opened, command)
