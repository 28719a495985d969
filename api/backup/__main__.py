"""`python -m api.backup`: backs up and restores the Redis and storage that the environment names."""

from __future__ import annotations

import click

from api.backup.command import backup, restore
from core.settings import load_settings


@click.group()
def main() -> None:
    """Back up a running installation, or restore a backup into an empty one."""


main.add_command(backup, "create")
main.add_command(restore)

if __name__ == "__main__":
    main(prog_name="python -m api.backup", obj=load_settings)
