"""`wastestream export`: results of the stack on this machine, or of other Redis and storage."""

from __future__ import annotations

from urllib.parse import urlsplit

from api.export.command import export as command
from core.settings import Settings
from infra.cli.target import target_command
from infra.local.environment import clean_environment


def _opened(settings: Settings) -> Settings:
    clean_environment(urlsplit(settings.s3_endpoint).hostname or "", aws=settings.s3_credentials == "aws")
    return settings


export = target_command(_opened, command)
