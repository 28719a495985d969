"""The commands that README and docs show exist, with every option that they show."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from pathlib import Path

import click
import pytest

from infra.cli.main import COMMANDS
from tests.support.servers import REPOSITORY

_DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


def _command_lines(document: Path) -> list[list[str]]:
    """Return the words after each `./wastestream` in the document, comments and redirections cut off."""
    text = document.read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.findall(r"\./wastestream((?: +[^\s`#|>&;)]+)+)", text)
    return [shlex.split(words) for words in found]


@pytest.mark.parametrize("document", _DOCUMENTS, ids=lambda path: path.name)
def test_commands_in_documents_exist(document: Path) -> None:
    """A reader can run what is written."""
    for words in _command_lines(document):
        if words[0] in {"--help", "COMMAND"}:
            continue
        assert words[0] in COMMANDS, words
        command = getattr(import_module(f"infra.cli.{words[0]}"), words[0])
        if words[0] == "test":  # The rest is pytest's.
            continue
        while isinstance(command, click.Group) and words[1:] and words[1] in command.commands:
            words, command = words[1:], command.commands[words[1]]  # noqa: PLW2901
        known = {
            name for option in command.params if isinstance(option, click.Option) for name in option.opts
        }
        used = {word.partition("=")[0] for word in words[1:] if word.startswith("--")}
        assert used <= known | {"--help"}, (words, used - known)


def test_the_readme_shows_the_two_commands() -> None:
    """Set-up is `up`; `test` proves it."""
    names = {words[0] for words in _command_lines(REPOSITORY / "README.md")}
    assert {"up", "test", "classify"} <= names
