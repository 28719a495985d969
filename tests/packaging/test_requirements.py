"""The pinned requirement files: complete, without addresses, and agreeing with each other."""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest

from tests.support.servers import REPOSITORY

_FILES = {
    "api": ["api", "otel"],
    "worker": ["worker", "mqtt", "otel"],
    "trainer": ["trainer"],
    "infra": ["infra"],
    "servers": ["servers"],
    "serve": ["api", "worker", "mqtt", "otel", "infra"],
    "train": ["trainer", "infra"],
    "bench": ["api", "worker", "mqtt", "infra", "bench"],
    "export": ["api", "infra", "export"],
    "camera": ["infra", "camera"],
    "soak": ["api", "worker", "mqtt", "infra", "camera"],
    "gateway": ["camera"],
    "test": [
        "api",
        "worker",
        "mqtt",
        "otel",
        "trainer",
        "infra",
        "bench",
        "export",
        "camera",
        "servers",
        "test",
    ],
}
"""File to the dependency groups that it installs."""

_WITH_GPU = {"worker-tensorflow": ["worker-tensorflow"], "train-gpu": ["trainer-gpu", "infra"]}
"""The same for the files with CUDA, which the tests do not install."""

_ALL = {**_FILES, **_WITH_GPU}


def _path(name: str) -> Path:
    return REPOSITORY / "requirements" / f"{name}.txt"


def _name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match is not None
    return re.sub(r"[-_.]+", "-", match.group()).lower()


_PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


def _wanted(group: str) -> set[str]:
    """Return the packages that pyproject.toml lists for a group and the groups in it."""
    names: set[str] = set()
    for entry in _PYPROJECT["dependency-groups"][group]:
        names |= _wanted(entry["include-group"]) if isinstance(entry, dict) else {_name(entry)}
    return names


def _stated() -> list[str]:
    """Return the requirements of a plain installation and of its extras."""
    project = _PYPROJECT["project"]
    return [*project["dependencies"], *chain(*project["optional-dependencies"].values())]


def _pins(name: str) -> set[tuple[str, str]]:
    lines = _path(name).read_text().splitlines()
    return {(_name(line), line.rstrip(" \\")) for line in lines if line and line[0].isalnum()}


@pytest.mark.parametrize("name", _ALL)
def test_everything_wanted_is_pinned(name: str) -> None:
    """Nothing was added to pyproject.toml without running requirements/compile."""
    wanted = set().union(*(_wanted(group) for group in _ALL[name]))
    assert wanted <= {pinned for pinned, _ in _pins(name)}


@pytest.mark.parametrize("name", [*_ALL, "lowest", "uv"])
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


def test_every_bound_stands_once_and_every_package_is_used() -> None:
    """Groups name packages with a stated bound; a plain installation has those of the local stack."""
    groups = {group: _wanted(group) for group in _PYPROJECT["dependency-groups"]}
    programs = set().union(*(names for group, names in groups.items() if group not in {"test", "run-tests"}))
    assert programs == {_name(requirement) for requirement in _stated()}
    plain = {_name(requirement) for requirement in _PYPROJECT["project"]["dependencies"]}
    assert plain == set().union(
        *(groups[group] for group in ("api", "worker", "evaluate", "infra", "servers"))
    )


def test_the_lowest_file_holds_the_stated_bounds() -> None:
    """The tests of uploads run on the lowest versions in pyproject.toml."""
    pins = {pin for _, pin in _pins("lowest")}
    for requirement in _PYPROJECT["project"]["dependencies"]:
        name, version = re.fullmatch(r"([^>]+)>=([0-9.]+)(?:,<[0-9.]+)?", requirement).groups()  # type: ignore[union-attr]
        assert any(
            re.match(rf"{re.escape(name)}=={re.escape(version)}(\.(0|post\d+))*$", pin) for pin in pins
        ), name
