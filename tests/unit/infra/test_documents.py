"""README and docs: commands and links exist, lines are short, each error of a start is explained."""

from __future__ import annotations

import ast
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
import pytest

from infra.cli.main import COMMANDS
from tests.support.servers import REPOSITORY

_DOCUMENTS = [
    *sorted(REPOSITORY.glob("*.md")),
    REPOSITORY / "client" / "README.md",
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]

_names = pytest.mark.parametrize("document", _DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))

_COLUMNS = 119


def _command_lines(document: Path) -> list[list[str]]:
    """Return the words after each `./wastestream` in the document, comments and redirections cut off."""
    text = document.read_text(encoding="utf-8").replace("\\\n", " ")
    commands = re.findall(r"\./wastestream((?: +[^\s`#|>&;)]+)+)", text)
    return [shlex.split(words) for words in commands]


@_names
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


_PYTHON = re.compile(
    r"((?:docker compose (?:exec|run)|kubectl exec) [^\n`]*?[\w-]+ python|\S*python3?) -m ([\w.]+)"
)

_OUR_PYTHONS = re.compile(
    r"docker compose (?:exec (?:-T )?(?:api|worker)|run --rm backup) python"
    r"|kubectl exec deployment/belts-(api|worker) -- python"
    r"|\.wastestream/(serve|test)/bin/python"
)
"""In a container or pod, and in the environments that `./wastestream up` and `test` install."""


@_names
def test_modules_in_documents_can_be_run(document: Path) -> None:
    """`python -m MODULE` says which Python has the module's packages; the module exists and is a program."""
    for python, module in _PYTHON.findall(document.read_text(encoding="utf-8").replace("`", "")):
        if module in sys.stdlib_module_names:
            continue
        assert _OUR_PYTHONS.fullmatch(python), (python, module)
        path = REPOSITORY / module.replace(".", "/")
        program = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
        assert '__name__ == "__main__"' in program.read_text(encoding="utf-8"), module


def test_contributors_know_what_ci_installs() -> None:
    """CONTRIBUTING.md names the packages of `.ci/run`, by the tests that would be skipped without them."""
    script = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    packages = script.partition("packages='")[2].partition("'")[0].split()
    table = re.findall(
        r"^\|[^|]+\|(.+)\|$", (REPOSITORY / "CONTRIBUTING.md").read_text("utf-8"), re.MULTILINE
    )
    named = [name for row in table if "|" not in row for name in re.findall(r"`([^`]+)`", row)]
    assert sorted(named) == sorted(packages)


def test_the_readme_shows_the_two_commands() -> None:
    """Set-up is `up`; `test` proves it."""
    commands = {words[0] for words in _command_lines(REPOSITORY / "README.md")}
    assert {"up", "test", "classify"} <= commands


@_names
def test_links_lead_somewhere(document: Path) -> None:
    """Each file that is linked exists, and has the heading behind `#`."""
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        if link.startswith(("http:", "https:")):
            continue
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        assert target.exists(), link
        if anchor:
            assert anchor in set(_anchors(target)), link


def _anchors(document: Path) -> Iterator[str]:
    """Return the headings as links name them: small letters, hyphens for blanks, nothing else."""
    for heading in re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), flags=re.MULTILINE):
        yield re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@_names
def test_lines_end_before_column_120(document: Path) -> None:
    """Prose can be read in any editor; tables and commands are as wide as they are."""
    prose = re.sub(
        r"^ *```.*?^ *```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    long = [line for line in prose.splitlines() if len(line) > _COLUMNS and line[:1] != "|"]
    assert long == []


@_names
def test_code_blocks_begin_and_end_with_a_line_of_their_own(document: Path) -> None:
    """Also within lists; a block that is joined to one line is shown as prose."""
    fences = [line for line in document.read_text(encoding="utf-8").splitlines() if "```" in line]
    assert [line for line in fences if not re.fullmatch(r" *```(\w+( [\w.]+)?)?", line)] == []
    assert len(fences) % 2 == 0


def test_the_changelog_begins_with_this_version() -> None:
    """The released version has its entry; `Unreleased` may stand above it."""
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    releases = re.findall(r"^## (\S+)", (REPOSITORY / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert next(release for release in releases if release != "Unreleased") == version


def test_each_decision_is_in_the_overview() -> None:
    """A page has its three parts, and the architecture names it."""
    overview = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    for page in (REPOSITORY / "docs" / "decisions").glob("*.md"):
        text = page.read_text(encoding="utf-8")
        for part in ("**Context.**", "**Decision.**", "**Consequences.**"):
            assert part in text, (page.name, part)
        assert f"(decisions/{page.name})" in overview


def _text(node: ast.expr) -> str | None:
    """Return the text of a literal, `…` for each inserted value; None if it is no text."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _raised(module: Path) -> Iterator[str]:
    """Return the literal words of each error that a module of the local stack raises."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.endswith("Error"):
            yield from (text for argument in node.args[:1] if (text := _text(argument)))


_TROUBLESHOOTING = (REPOSITORY / "docs" / "troubleshooting.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "module", sorted((REPOSITORY / "infra" / "local").glob("*.py")), ids=lambda p: p.stem
)
def test_each_error_of_a_start_is_in_troubleshooting(module: Path) -> None:
    """Its first clause stands on the page, with anything where it inserts a name."""
    for sentence in _raised(module):
        clauses = [clause.strip() for clause in re.split(r"[(`;,.:]", sentence)]
        clause = next(clause for clause in clauses if len(clause.replace("…", "").split()) > 1)
        pattern = ".{1,60}?".join(map(re.escape, clause.split("…")))
        assert re.search(rf"^\| .*{pattern}", _TROUBLESHOOTING, flags=re.MULTILINE), clause


_HEADINGS = ("the sentence", "`/readyz` says")
_BETWEEN = re.compile(r"\([^)]*\)|\b(?:ADDR|FOLDER|FILE|NAME|HOST:PORT|N)\b|\.\.\.|[`;,:]")
"""Separators of a sentence's words on the page: inserted names, alternatives, omissions."""


def test_each_sentence_in_troubleshooting_is_the_programs() -> None:
    """Its words are in the code; only "No such command" is click's own sentence."""
    modules = (
        path for room in ("api", "core", "infra", "worker") for path in (REPOSITORY / room).rglob("*.py")
    )
    nodes = (node for path in modules for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    texts = "\n".join(text for node in nodes if isinstance(node, ast.expr) and (text := _text(node)))
    for sentence in re.findall(r"^\| (.+?) \| ", _TROUBLESHOOTING, flags=re.MULTILINE):
        if sentence.startswith((*_HEADINGS, "No such command")):
            continue
        words = [part.strip() for part in _BETWEEN.split(sentence) if len(part.split()) > 1]
        assert words
        assert [part for part in words if part not in texts] == []
