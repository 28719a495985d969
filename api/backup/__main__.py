"""`python -m api.backup`: backup, restoration and recovery of the installation that the environment names."""

from __future__ import annotations

import click

from api.backup.command import backup, recover, restore
from core.settings import load_settings


@click.group()
def main() -> None:
    """Back up a running installation, restore a backup, or recover jobs from storage."""


main.add_command(backup, "create")
main.add_command(restore)
main.add_command(recover)

if __name__ == "__main__":
    main(prog_name="python -m api.backup", obj=load_settings)
