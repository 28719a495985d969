"""Files of a command line."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from core.image_header import MAX_BYTES
from infra.cli.collect import CollectError, collect
from tests.support.images import jpeg


def write(path: Path, content: bytes = b"bytes") -> Path:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_folder_stands_for_its_images_sorted(tmp_path: Path) -> None:
    """Images at any depth, in any case, sorted; other files and macOS attribute files stay out."""
    for name in ("b.JPG", "a.jpeg", "sub/c.png", "sub/deeper/d.WebP", "notes.txt", "._a.jpeg", "sub/e.gif"):
        write(tmp_path / name)
    names = [source.name.removeprefix(f"{tmp_path}/") for source in collect([tmp_path])]
    assert names == ["a.jpeg", "b.JPG", "sub/c.png", "sub/deeper/d.WebP"]


def test_a_named_file_is_always_taken(tmp_path: Path) -> None:
    """A file on the command line is sent under any name."""
    path = write(tmp_path / "frame.bin", b"content")
    (source,) = collect([path])
    assert source.read() == b"content"


def test_an_archive_stands_for_the_images_in_it(tmp_path: Path) -> None:
    """Each image member of a tar is read from where it lies in the archive."""
    for name in ("TEST/R/2.jpg", "TEST/O/1.jpg", "TEST/readme.txt"):
        write(tmp_path / name, name.encode() * 100)
    archive = tmp_path / "data.tar"
    with tarfile.open(archive, "w") as writer:
        writer.add(tmp_path / "TEST", "TEST")
    sources = collect([archive])
    assert [source.name for source in sources] == [f"{archive}:TEST/O/1.jpg", f"{archive}:TEST/R/2.jpg"]
    assert [source.read() for source in sources] == [b"TEST/O/1.jpg" * 100, b"TEST/R/2.jpg" * 100]


def test_paths_keep_the_order_of_the_command_line(tmp_path: Path) -> None:
    """Positions number the images as they were named."""
    late, early = write(tmp_path / "z.jpg"), write(tmp_path / "a.jpg")
    sources = collect([late, early])
    assert [(source.position, source.path) for source in sources] == [(0, late), (1, early)]


def test_no_image_is_an_error(tmp_path: Path) -> None:
    """A folder without images is rejected by name."""
    write(tmp_path / "notes.txt")
    with pytest.raises(CollectError, match=f"No images in {tmp_path}"):
        collect([tmp_path])


def test_a_broken_archive_is_an_error(tmp_path: Path) -> None:
    """A .tar file that is not an archive is rejected with a sentence."""
    archive = write(tmp_path / "data.tar", jpeg())
    with pytest.raises(CollectError, match="cannot be read as a tar archive"):
        collect([archive])


def test_what_is_no_regular_file_is_never_waited_for(tmp_path: Path) -> None:
    """A pipe and a device cannot be read as an image, nor as an archive."""
    for name in ("pipe", "pipe.tar"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "zero.tar").symlink_to("/dev/zero")
    for source in collect([tmp_path / "pipe", Path("/dev/zero")]):
        with pytest.raises(OSError, match="is a pipe or a device"):
            source.read()
    for name in ("pipe.tar", "zero.tar"):
        with pytest.raises(CollectError, match=rf"{name} is a pipe or a device"):
            collect([tmp_path / name])


def test_a_file_that_grows_is_read_up_to_the_limit(tmp_path: Path) -> None:
    """One byte more tells that it is too large."""
    (source,) = collect([write(tmp_path / "a.jpg")])
    with (tmp_path / "a.jpg").open("ab") as stream:
        stream.truncate(2 * MAX_BYTES)
    assert len(source.read()) == MAX_BYTES + 1


def test_a_name_that_is_no_utf8_can_be_shown(tmp_path: Path) -> None:
    """Bytes of a name that are no UTF-8 are shown replaced; the file is read all the same."""
    try:
        path = write(Path(f"{tmp_path}/bad\udcff.jpg"))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    (source,) = collect([path])
    assert source.name.endswith("bad\ufffd.jpg")
    assert source.read() == b"bytes"
