"""`wastestream classify` as a person runs it, against the whole running stack."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.lab.stack import Stack
from tests.support.images import jpeg
from tests.support.servers import REPOSITORY

FIELDS = ["file", "job", "state", "label", "probability", "review", "model", "error"]


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
    (folder / "sub" / "\x1b]0;title\x07.jpg").write_bytes(jpeg(3))
    done = classify(folder, "--url", stack.url)
    assert done.returncode == 0, done.stderr
    assert all(str(folder / name) in done.stdout for name in ("a.jpg", "b.JPEG", "sub/c.jpg"))
    assert "notes.txt" not in done.stdout
    assert "4 images: 4 classified" in done.stdout.splitlines()[-1]
    assert r"\x1b]0;title\x07.jpg" in done.stdout
    assert "\x1b" not in done.stdout


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
    """A single file is classified, its address taken from the environment; no proxy leads to this machine."""
    proxies = {"http_proxy": "http://127.0.0.1:9", "ALL_PROXY": "socks5://127.0.0.1:9"}
    done = classify(folder / "a.jpg", "--json", WASTESTREAM_URL=stack.url, **proxies)
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
    """Files that are no image, cut off or endless fail with a reason beside the others; exit code 1."""
    whole = jpeg(9)
    os.mkfifo(folder / "pipe.jpg")
    (folder / "zero.jpg").symlink_to("/dev/zero")
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
        for name in ("pipe.jpg", "zero.jpg"):
            assert lines[name]["state"] == "failed"
            assert "is a pipe or a device" in lines[name]["error"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["/no/such/path"], "does not exist"),
        (["{empty}"], "No images in"),
        ([], "Missing argument"),
        (["{empty}", "--url", "somewhere"], "use an address like http"),
        (["{empty}", "--url", "http://127.0.0.1:99999"], "use an address like http"),
        (["{empty}", "--url", "http://exa mple"], "use an address like http"),
        (["{empty}", "--camera", "gate/7"], "it holds '/'"),
    ],
)
def test_usage_errors(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    """A command line that cannot work ends with a sentence and exit code 2."""
    done = classify(*(argument.format(empty=tmp_path) for argument in arguments))
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stdout == ""


def test_a_proxy_that_cannot_be_used(folder: Path) -> None:
    """Is named, with exit code 2 and without a traceback."""
    done = classify(folder, "--url", "http://host.test", ALL_PROXY="socks5://127.0.0.1:9")
    assert done.returncode == 2
    assert "ALL_PROXY names the proxy socks5://127.0.0.1:9, which is unusable" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_camera_is_named(stack: Stack, folder: Path) -> None:
    """The jobs belong to the camera that --camera names, as those of clients that send its name unescaped."""
    done = classify(folder / "a.jpg", "--url", stack.url, "--camera", "T\u00fcr 7", "--json")
    (line,) = objects(done.stdout)
    assert httpx.get(f"{stack.url}/v1/jobs/{line['job']}").json()["camera"] == "T\u00fcr 7"
    for raw in ("T\u00fcr 7".encode(), "T\u00fcr 7".encode("latin-1")):
        headers = {b"X-Camera-Id": raw, b"Content-Type": b"image/jpeg"}
        assert (
            httpx.post(f"{stack.url}/v1/images", content=jpeg(), headers=headers).json()["camera"]
            == "T\u00fcr 7"
        )


def test_interrupting(folder: Path) -> None:
    """Ctrl-C ends the command with a sentence and exit code 130, though no server answers."""
    nowhere = "http://127.0.0.1:9"  # the discard port, where nothing listens
    with subprocess.Popen(
        command(folder, "--url", nowhere), cwd=REPOSITORY, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert "is unreachable" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 130
    assert "Stopped: 0 of 3 images were settled." in said


@pytest.fixture(scope="module")
def keys(locked_stack: Stack) -> dict[str, str]:
    """Keys of a stack that requires one, by their rights."""
    return {
        "both": locked_stack.make_key("both", "ingest", "read"),
        "ingest": locked_stack.make_key("ingest-only", "ingest"),
    }


def test_a_key_from_the_environment_or_a_file(
    locked_stack: Stack, folder: Path, keys: dict[str, str], tmp_path: Path
) -> None:
    """Either opens the server; of both the file counts, which was named for this call."""
    (tmp_path / "key").write_text(keys["both"] + "\n")
    options = ("--url", locked_stack.url, folder)
    assert classify(*options, WASTESTREAM_API_KEY=keys["both"]).returncode == 0
    assert classify("--key-file", tmp_path / "key", *options, WASTESTREAM_API_KEY="wrong").returncode == 0


@pytest.mark.parametrize(
    ("key", "images", "sentence"),
    [
        (None, "a.jpg", "(401). This call needs an API key"),
        (None, ".", "(401). This call needs an API key"),
        ("ws_wrong", "a.jpg", "(401). The API key is unknown, revoked or expired"),
        ("ingest", "a.jpg", "(403). This call needs the scope 'read', which the key 'ingest-only' lacks"),
        ("ingest", ".", "(403). This call needs the scope 'read', which the key 'ingest-only' lacks"),
    ],
)
def test_a_server_that_rejects_the_key_ends_it(
    locked_stack: Stack, folder: Path, keys: dict[str, str], *, key: str | None, images: str, sentence: str
) -> None:
    """It says so once, how to give a key, and exits 1 at once; the key itself is never printed."""
    environment = {} if key is None else {"WASTESTREAM_API_KEY": keys.get(key, key)}
    done = classify("--url", locked_stack.url, "--json", folder / images, **environment)
    assert done.returncode == 1
    assert done.stderr.count(sentence) == 1
    assert "in WASTESTREAM_API_KEY or --key-file" in done.stderr
    assert all(sentence in result["error"] for result in objects(done.stdout))
    assert not any(secret in done.stdout + done.stderr for secret in keys.values())


def test_a_key_that_cannot_be_one(folder: Path, tmp_path: Path) -> None:
    """Two lines, or no text at all, are rejected before anything is sent."""
    for content, variables in ((b"a\nb", {}), (b"\xff\xfe", {}), (b"", {"WASTESTREAM_API_KEY": "a b"})):
        (tmp_path / "key").write_bytes(content)
        options = [] if variables else ["--key-file", tmp_path / "key"]
        done = classify(*options, folder, **variables)
        assert done.returncode == 2
        assert "API_KEY" in done.stderr or "--key-file" in done.stderr
