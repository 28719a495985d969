"""The pinned requirement files: complete, without addresses, and agreeing with each other."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.support.servers import REPOSITORY

_FILES = {
    "api": ["api"],
    "worker": ["worker"],
    "trainer": ["trainer"],
    "infra": ["infra"],
    "servers": ["servers"],
    "serve": ["api", "worker", "infra"],
    "train": ["trainer", "infra"],
    "bench": ["api", "worker", "infra", "bench"],
    "test": ["api", "worker", "trainer", "infra", "bench", "servers", "test"],
}
"""File to the extras that it installs."""

_WITH_GPU = {"worker-tensorflow": ["worker-tensorflow"], "train-gpu": ["trainer-gpu", "infra"]}
"""The same of those that hold CUDA, which the tests do without."""

_ALL = {**_FILES, **_WITH_GPU}


def _path(name: str) -> Path:
    return REPOSITORY / "requirements" / f"{name}.txt"


def _name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match is not None
    return re.sub(r"[-_.]+", "-", match.group()).lower()


def _wanted(extra: str) -> set[str]:
    """Return what pyproject.toml lists for an extra, extras of ours that it names followed."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    names: set[str] = set()
    for requirement in project["optional-dependencies"][extra]:
        ours = re.fullmatch(r"wastestream\[(.+)\]", requirement)
        names |= _wanted(ours.group(1)) if ours else {_name(requirement)}
    return names


def _pins(name: str) -> set[tuple[str, str]]:
    lines = _path(name).read_text().splitlines()
    return {(_name(line), line.rstrip(" \\")) for line in lines if line and line[0].isalnum()}


@pytest.mark.parametrize("name", _ALL)
def test_everything_wanted_is_pinned(name: str) -> None:
    """Nothing was added to pyproject.toml without running requirements/compile."""
    wanted = set().union(*(_wanted(extra) for extra in _ALL[name]))
    assert wanted <= {pinned for pinned, _ in _pins(name)}


@pytest.mark.parametrize("name", [*_ALL, "uv"])
def test_every_pin_has_hashes_and_no_address(name: str) -> None:
    """A file names versions and hashes, and no host or path."""
    text = _path(name).read_text()
    assert not re.search(r"://|--(extra-)?index-url|--find-links|file:|@ ", text)
    for block in re.split(r"\n(?=[A-Za-z0-9])", text.strip()):
        assert "==" in block
        assert "--hash=sha256:" in block


@pytest.mark.parametrize("name", _FILES)
def test_the_files_agree(name: str) -> None:
    """Each pin is the one in test.txt, which holds everything."""
    assert _pins(name) <= _pins("test")
