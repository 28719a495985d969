"""The list of files that one image enters, in docs/architecture.md, is true."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from flask.testing import FlaskClient

from core.messages import QUEUES, keys_in
from core.model.engine import LiteRtEngine
from core.redis.job_store import JobStore
from core.settings import Settings
from core.storage import ObjectStore
from tests.support.calls import post_image
from tests.support.servers import REPOSITORY
from worker.classify import Classifier
from worker.transport.delivery import Item

_ROOMS = ("api", "core", "worker")
_ENTRIES = ("api/server/gunicorn_worker.py", "worker/app.py")
"""Modules that start the programs, and so are on nobody's way."""


def _steps() -> list[list[str]]:
    """The files of each numbered step."""
    page = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = page.partition("## One image's way\n")[2].partition("\n## ")[0]
    steps = re.split(r"^\d\. ", section, flags=re.MULTILINE)[1:]
    return [re.findall(r"`((?:api|core|worker)/[\w/]+\.py)`", step) for step in steps]


def _entered(call: Callable[[], object]) -> list[str]:
    """Our files whose functions a call enters in this thread, in order."""
    files: dict[str, None] = {}

    def note(frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(REPOSITORY) and frame.f_code.co_name != "<module>":
            name = path.relative_to(REPOSITORY).as_posix()
            if name.startswith(_ROOMS):
                files[name] = None

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return list(files)


def _shortest(call: Callable[[], object]) -> list[str]:
    """The way without the periodic checks, such as of the API keys."""
    call()
    return min((_entered(call) for _ in range(3)), key=len)


def _imported(file: str) -> set[str]:
    """Files of ours that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((REPOSITORY / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    return {f"{name.replace('.', '/')}.py" for name in names}


def test_a_thread_of_the_api_and_a_child_enter_the_files_listed(
    client: FlaskClient, jobs: JobStore, objects: ObjectStore, settings: Settings
) -> None:
    """In this order, none besides; traced call by call."""
    _, thread, _, child = _steps()

    def upload() -> None:
        answer = post_image(client)
        assert answer.status_code == 202

    assert _shortest(upload) == thread
    queued = jobs.client.lrange(QUEUES["single"], 0, -1)
    keys = iter([key for message in queued for key in keys_in(json.loads(message))])
    classifier = Classifier(LiteRtEngine(settings.model_dir), jobs, objects, timeout=60)
    try:
        assert _shortest(lambda: classifier.run([Item(next(keys))])) == child
    finally:
        classifier._loop.close()
    assert jobs.pending() == 0


def test_the_files_listed_between_follow_each_other() -> None:
    """In event loops, not traced: each file is imported by one before it, or where a program starts."""
    loop, _, parent, _ = _steps()
    assert len(loop) > 3 < len(parent)
    for files in (loop, parent):
        known = set[str]().union(*map(_imported, _ENTRIES))
        for file in files:
            assert file in known, file
            known |= _imported(file)
