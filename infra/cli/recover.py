"""`wastestream recover`: makes jobs of stored images after Redis was lost."""

from __future__ import annotations

from api.backup.command import recover as command
from infra.cli.backup import opened
from infra.cli.target import target_command

recover = target_command(opened, command)
