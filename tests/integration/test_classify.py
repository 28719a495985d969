"""`wastestream classify` as a person runs it, against the whole running stack."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest

from tests.support.pictures import jpeg
from tests.support.servers import REPOSITORY

FIELDS = ["file", "job", "state", "label", "probability", "review", "model", "error"]


class Stack(Protocol):
    """What the fixture `stack` has."""

    url: str


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three images, one of them deeper, and a file that is none."""
    (tmp_path / "sub").mkdir()
    for seed, name in enumerate(("a.jpg", "b.JPEG", "sub/c.jpg")):
        (tmp_path / name).write_bytes(jpeg(seed))
    (tmp_path / "notes.txt").write_text("not an image")
    return tmp_path


def command(*arguments: object) -> list[str]:
    """Return the command line."""
    return [sys.executable, "-m", "infra.cli", "classify", *map(str, arguments)]


def classify(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        command(*arguments),
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def objects(output: str) -> list[dict[str, Any]]:
    """Return the objects of JSON lines."""
    return [json.loads(line) for line in output.splitlines()]


def test_a_folder_becomes_a_table(stack: Stack, folder: Path) -> None:
    """Every image of the folder has its row, the summary counts them, and the exit code is 0."""
    done = classify(folder, "--url", stack.url)
    assert done.returncode == 0, done.stderr
    assert all(str(folder / name) in done.stdout for name in ("a.jpg", "b.JPEG", "sub/c.jpg"))
    assert "notes.txt" not in done.stdout
    assert "3 images: 3 classified" in done.stdout.splitlines()[-1]


def test_json_is_one_object_a_line(stack: Stack, folder: Path) -> None:
    """With --json each line is one image with exactly the promised fields, and nothing else is printed."""
    done = classify(folder, "--url", stack.url, "--json")
    lines = objects(done.stdout)
    assert done.returncode == 0, done.stderr
    assert [list(line) for line in lines] == [FIELDS] * 3
    assert {line["state"] for line in lines} == {"classified"}
    assert {line["label"] for line in lines} <= {"biodegradable", "non_biodegradable"}
    assert all(0.5 <= line["probability"] <= 1 or line["review"] for line in lines)


def test_one_image_alone(stack: Stack, folder: Path) -> None:
    """A single file is classified, its address taken from the environment."""
    done = classify(folder / "a.jpg", "--json", WASTESTREAM_URL=stack.url)
    assert done.returncode == 0, done.stderr
    assert [line["state"] for line in objects(done.stdout)] == ["classified"]


def test_an_archive(stack: Stack, folder: Path) -> None:
    """A .tar is read as a folder of images."""
    archive = folder / "all.tar"
    with tarfile.open(archive, "w") as writer:
        writer.add(folder / "a.jpg", "TEST/O/a.jpg")
        writer.add(folder / "sub" / "c.jpg", "TEST/R/c.jpg")
    done = classify(archive, "--url", stack.url, "--json")
    assert done.returncode == 0, done.stderr
    assert {line["file"] for line in objects(done.stdout)} == {
        f"{archive}:TEST/O/a.jpg",
        f"{archive}:TEST/R/c.jpg",
    }


@pytest.mark.parametrize("alone", [True, False])
def test_bad_images_fail_with_a_sentence(stack: Stack, folder: Path, *, alone: bool) -> None:
    """What is no image, and what breaks off, fails with a reason beside those that succeed; exit code 1."""
    whole = jpeg(9)
    broken = folder / "broken.jpg"
    broken.write_bytes(whole[: len(whole) // 2])
    done = classify(folder / "notes.txt", *([] if alone else [folder]), "--url", stack.url, "--json")
    lines = {Path(line["file"]).name: line for line in objects(done.stdout)}
    assert done.returncode == 1
    assert lines["notes.txt"]["state"] == "failed"
    assert "not a JPEG, PNG or WebP image" in lines["notes.txt"]["error"]
    if not alone:
        assert lines["broken.jpg"]["state"] == "failed"
        assert lines["broken.jpg"]["error"]
        assert lines["a.jpg"]["state"] == "classified"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["/no/such/path"], "does not exist"),
        (["{empty}"], "No images in"),
        ([], "Missing argument"),
        (["{empty}", "--url", "somewhere"], "must be like http"),
        (["{empty}", "--url", "http://127.0.0.1:99999"], "must be like http"),
        (["{empty}", "--url", "http://exa mple"], "must be like http"),
        (["{empty}", "--camera", "gate 7"], "letters, digits"),
    ],
)
def test_usage_errors(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    """A command line that cannot work ends with a sentence and exit code 2."""
    done = classify(*(argument.format(empty=tmp_path) for argument in arguments))
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stdout == ""


def test_the_camera_is_named(stack: Stack, folder: Path) -> None:
    """The jobs belong to the camera that --camera names."""
    done = classify(folder / "a.jpg", "--url", stack.url, "--camera", "gate-7", "--json")
    (line,) = objects(done.stdout)
    assert httpx.get(f"{stack.url}/v1/jobs/{line['job']}").json()["camera"] == "gate-7"


def test_interrupting(folder: Path) -> None:
    """Ctrl-C ends the command with a sentence and exit code 130, though no server answers."""
    nowhere = "http://127.0.0.1:9"  # the discard port, where nothing listens
    with subprocess.Popen(
        command(folder, "--url", nowhere), cwd=REPOSITORY, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert "can't be reached" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 130
    assert "Stopped: 0 of 3 images were settled." in said
