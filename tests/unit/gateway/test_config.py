"""The configuration has a sentence for each mistake, and none with a password."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wastestream.gateway.config import load_config, make_config
from wastestream.gateway.errors import ConfigError
from wastestream.gateway.source import Kind, parse_source

CAMERA = {"id": "belt-1", "source": "rtsp://admin:geheim@10.0.0.5:8554/user=admin&password=geheim"}


def sentences(document: dict[str, Any]) -> list[str]:
    """Return the sentences about a document's mistakes."""
    with pytest.raises(ConfigError) as caught:
        make_config(document)
    assert "geheim" not in str(caught.value)
    return str(caught.value).splitlines()


def camera(**members: Any) -> dict[str, Any]:
    """Return a document with one camera."""
    return {"cameras": [{**CAMERA, **members}]}


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({}, "cameras is missing."),
        ({"cameras": []}, "cameras is empty; name at least one camera."),
        ({"cameras": [CAMERA, CAMERA]}, "two cameras have the id 'belt-1'; give each camera its own."),
        ({"cameras": [{"id": "a"}]}, "camera 'a': source is missing."),
        ({"cameras": [{"source": "x"}]}, "camera 1: id is missing."),
        ({"cameras": ["belt-1"]}, "cameras.0 must have members, such as `id: belt-1`."),
        (camera(colour=1), "camera 'belt-1': colour is no known member; remove it, or correct its name."),
        (
            camera(fps="fast"),
            "camera 'belt-1': fps 'fast' is no number of frames a second; write 5, 0.5 or 1/60.",
        ),
        (
            camera(fps="1/0"),
            "camera 'belt-1': fps '1/0' is no number of frames a second; write 5, 0.5 or 1/60.",
        ),
        (camera(fps=-1), "camera 'belt-1': fps must be greater than or equal to 0."),
        (camera(rotate=45), "camera 'belt-1': rotate must be 0, 90, 180 or 270."),
        (camera(crop={"x": 0, "y": 0, "width": 1920}), "camera 'belt-1': crop.height is missing."),
        (
            camera(done="move"),
            "camera 'belt-1' reads no folder; remove `done`, which is about a folder's files.",
        ),
        (
            camera(source="in/", rotate=90),
            (
                "camera 'belt-1' reads a folder, whose files are sent as they are; "
                "remove crop, rotate and skip_similar."
            ),
        ),
        (
            camera(source="ftp://user:geheim@host/"),
            "camera 'belt-1': source begins with ftp://; use rtsp://, http://, a file, a device or a folder.",
        ),
        (
            camera(source="rtsp://user:geheim@:99999/"),
            "camera 'belt-1': source is no address; write rtsp://HOST/PATH.",
        ),
        (
            camera(source=7),
            "camera 'belt-1': source must be a text: rtsp://, http://, a file, a device or a folder.",
        ),
        ({**camera(), "server": "nowhere"}, "server is no address; write http://HOST:PORT or https://HOST."),
        (
            {**camera(), "listen": "0.0.0.0:80"},
            "listen '0.0.0.0:80' is no address of this machine alone; write 127.0.0.1:8060.",
        ),
        ({**camera(), "spool": {"max_gb": 0}}, "spool.max_gb must be greater than 0."),
    ],
)
def test_each_mistake_has_a_sentence(document: dict[str, Any], sentence: str) -> None:
    """It names the camera and the member, and says what to do."""
    assert sentences(document) == [sentence]


def test_all_mistakes_are_told_at_once() -> None:
    """Who corrects one needs not to start again for the next."""
    assert len(sentences({"server": "", "cameras": [{"id": "_", "source": ""}]})) == 3


def test_the_same_names_are_ids_as_at_the_server() -> None:
    """Letters of any script, and no more than 64 bytes."""
    assert make_config(camera(id="Förderband 2, (links)")).cameras[0].id == "Förderband 2, (links)"
    assert "is no camera id" in sentences(camera(id="ä" * 33))[0]


def test_a_file_is_read_with_paths_relative_to_it(tmp_path: Path) -> None:
    """Wherever the gateway is started."""
    (tmp_path / "in").mkdir()
    file = tmp_path / "cameras.yaml"
    file.write_text(
        "key_file: key\nspool: {folder: frames}\n"
        "cameras:\n- {id: nvr, source: in, done: delete}\n- {id: clip, source: clip.mp4, fps: 1/60}\n"
    )
    config = load_config(file)
    nvr, clip = config.cameras
    assert (config.key_file, config.spool.folder) == (tmp_path / "key", tmp_path / "frames")
    assert (nvr.source.kind, nvr.source.address) == (Kind.FOLDER, str(tmp_path / "in"))
    assert (clip.source.kind, clip.source.address) == (Kind.FILE, str(tmp_path / "clip.mp4"))
    assert clip.fps == pytest.approx(1 / 60)


@pytest.mark.parametrize("text", ["cameras: [", "a: b: geheim", "- geheim", "", "\x00"])
def test_a_file_that_is_no_configuration_is_named(tmp_path: Path, text: str) -> None:
    """With the line of the mistake, and without what stands there."""
    file = tmp_path / "cameras.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"cameras\.yaml") as caught:
        load_config(file)
    assert "geheim" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """With the reason."""
    with pytest.raises(ConfigError, match=r"none\.yaml cannot be read: No such file"):
        load_config(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://admin:geheim@10.0.0.5:8554/geheim?password=geheim", "rtsp://10.0.0.5:8554"),
        ("rtsps://u:geheim@[fe80::1]/x", "rtsps://[fe80::1]"),
        ("http://geheim@camera.local/video.mjpg?pwd=geheim", "http://camera.local"),
        ("/dev/video0", "/dev/video0"),
    ],
)
def test_a_source_is_written_without_passwords(text: str, shown: str) -> None:
    """Some cameras take them in the path or behind it."""
    source = parse_source(text)
    assert str(source) == shown
    assert "geheim" not in repr(source)


def test_a_rare_camera_is_not_silent_soon() -> None:
    """One frame an hour is late after three hours."""
    config = make_config(camera(fps="1/3600"))
    assert config.cameras[0].silence == pytest.approx(3 * 3600)
    assert make_config(camera(fps=5)).cameras[0].silence == 15
