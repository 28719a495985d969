"""Files of the repository's code."""

from __future__ import annotations

from tests.support.servers import REPOSITORY

_ROOMS = ("api", "client", "core", "infra", "tests", "trainer", "worker")
_KINDS = ("*.py", "static/*.js", "*.lua")
_MAX_LINES = 400


def test_no_file_of_code_is_long() -> None:
    """A file holds one noun; a longer one holds several, and is to be split by them."""
    paths = (path for room in _ROOMS for kind in _KINDS for path in (REPOSITORY / room).rglob(kind))
    lines = {
        str(path.relative_to(REPOSITORY)): len(path.read_text(encoding="utf-8").splitlines())
        for path in paths
    }
    assert {name: count for name, count in lines.items() if count > _MAX_LINES} == {}
