"""`wastestream test`: every check of CI."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

import click

from infra.cli.options import cores
from infra.local.checkout import REPOSITORY

_CHECKS: Final = {
    "ruff check": ["-m", "ruff", "check", "."],
    "ruff format": ["-m", "ruff", "format", "--check", "."],
    "mypy": ["-m", "mypy"],
    "import-linter": ["-c", "from importlinter.cli import lint_imports_command as run; run()"],
}
"""Name to arguments for Python, in the order of their cost."""


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("pytest_arguments", nargs=-1, type=click.UNPROCESSED)
def test(pytest_arguments: tuple[str, ...]) -> None:
    """Run the linters and the tests. Arguments go to pytest, such as `-k NAME` or a file."""
    failed = [name for name, arguments in _CHECKS.items() if not _passes(name, arguments)]
    # One process more than cores, because most tests wait for servers. The tests of a file stay together,
    # because they share servers. `-n0` runs all tests in one process.
    processes = ["-n", str(cores() + 1), "--dist", "loadfile"]
    passed = _passes("pytest", ["-m", "pytest", *processes, *pytest_arguments])
    if failed:
        click.echo(f"Failed: {', '.join(failed)}; their output is above.", err=True)
    sys.exit(0 if passed and not failed else 1)


def _passes(name: str, arguments: list[str]) -> bool:
    click.secho(f"== {name}", bold=True)
    return subprocess.run([sys.executable, *arguments], cwd=REPOSITORY, check=False).returncode == 0  # noqa: S603
