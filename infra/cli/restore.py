"""`wastestream restore`: fills an empty data folder, or an empty Redis and bucket, from a backup."""

from __future__ import annotations

import click

from api.backup.command import restore as command
from core.settings import Settings
from infra.cli.backup import opened
from infra.cli.target import Target, settings_of, target_command
from infra.local.environment import clean_environment
from infra.local.folder import DataFolder
from infra.local.ports import LOOPBACK_HOST
from infra.local.servers import servers


class _Stopped(Target):
    """A data folder on which no stack runs. Its servers run until the command has ended."""

    def local_settings(self, folder: DataFolder) -> Settings:
        """Start the servers; return their settings."""
        clean_environment(LOOPBACK_HOST)
        click.get_current_context().with_resource(servers(folder))
        return settings_of(folder)


restore = target_command(opened, command, _Stopped)
