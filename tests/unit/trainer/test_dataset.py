"""Folders and archives are read alike; data that cannot be trained on is rejected in one sentence."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer.dataset import balanced, decode_files, has_split, read_files
from trainer.errors import DatasetError


def png(value: int) -> bytes:
    """A grey 10x10 PNG."""
    stream = io.BytesIO()
    Image.new("RGB", (10, 10), (value, value, value)).save(stream, "PNG")
    return stream.getvalue()


def folder(root: Path, files: dict[str, bytes]) -> Path:
    """Write `files` below `root/set`."""
    for name, data in files.items():
        path = root / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root / "set"


def archive(root: Path, files: dict[str, bytes]) -> Path:
    """Write `files` as a tar archive."""
    with tarfile.open(root / "set.tar", "w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return root / "set.tar"


Maker = Callable[[Path, dict[str, bytes]], Path]
both = pytest.mark.parametrize("make", [folder, archive])


@both
def test_classes_and_order(make: Maker, tmp_path: Path) -> None:
    """O is 0 and R is 1, sorted by name, below any folders; hidden files are skipped."""
    source = make(
        tmp_path,
        {
            "DATASET/TRAIN/R/b.png": png(1),
            "DATASET/TRAIN/O/a.png": png(2),
            "DATASET/TRAIN/O/.DS_Store": b"x",
            "DATASET/TEST/O/c.png": png(3),
        },
    )
    files = read_files([source], "TRAIN")
    assert [(file.name, file.label) for file in files] == [
        ("DATASET/TRAIN/O/a.png", 0),
        ("DATASET/TRAIN/R/b.png", 1),
    ]
    assert has_split([source], "TEST")


@both
def test_an_empty_class_is_rejected(make: Maker, tmp_path: Path) -> None:
    """One class alone cannot be trained on; the error names the empty one."""
    source = make(tmp_path, {"TRAIN/O/a.png": png(1)})
    with pytest.raises(DatasetError, match=r"TRAIN/R .* holds no images"):
        read_files([source], "TRAIN")


@both
def test_something_else_is_rejected(make: Maker, tmp_path: Path) -> None:
    """Files outside the layout are no image set."""
    source = make(tmp_path, {"notes/readme.txt": b"hello"})
    with pytest.raises(DatasetError, match="No TRAIN images"):
        read_files([source], "TRAIN")


def test_an_unknown_class_is_rejected(tmp_path: Path) -> None:
    """A third class is a mistake worth stopping for, not to be passed over."""
    with pytest.raises(DatasetError, match="TRAIN/N is not a class"):
        read_files([folder(tmp_path, {"TRAIN/N/a.png": png(1)})], "TRAIN")


def test_a_missing_path_is_rejected(tmp_path: Path) -> None:
    """The error names the path."""
    with pytest.raises(DatasetError, match="nowhere does not exist"):
        read_files([tmp_path / "nowhere"], "TRAIN")


def test_a_file_that_is_no_archive_is_rejected(tmp_path: Path) -> None:
    """Any other file is neither folder nor archive."""
    path = tmp_path / "data.tar"
    path.write_bytes(b"not a tar archive" * 100)
    with pytest.raises(DatasetError, match="neither a folder nor a readable tar"):
        read_files([path], "TRAIN")


def test_unreadable_files_are_named_and_left_out(tmp_path: Path) -> None:
    """A broken file costs itself only; the others keep their labels and digests."""
    source = folder(tmp_path, {"TRAIN/O/a.png": b"broken", "TRAIN/O/b.png": png(7), "TRAIN/R/c.png": png(9)})
    images = decode_files(read_files([source], "TRAIN"), side=16)
    assert images.names == ("set/TRAIN/O/b.png", "set/TRAIN/R/c.png")
    assert images.unreadable[0].startswith("set/TRAIN/O/a.png: ")
    assert images.pixels.shape == (2, 16, 16, 3)
    assert images.pixels[:, 0, 0, 0].tolist() == [7, 9]


def test_a_class_of_broken_files_is_rejected(tmp_path: Path) -> None:
    """When no image of a class can be read there is nothing to train on."""
    source = folder(tmp_path, {"TRAIN/O/a.png": b"broken", "TRAIN/R/c.png": png(9)})
    with pytest.raises(DatasetError, match="None of the images in O can be read"):
        decode_files(read_files([source], "TRAIN"))


def test_many_processes_decode_as_one_does(tmp_path: Path) -> None:
    """The pool keeps order and pixels."""
    source = folder(tmp_path, {f"TEST/{'OR'[at % 2]}/{at:03}.png": png(at) for at in range(150)})
    files = read_files([source], "TEST")
    np.testing.assert_array_equal(
        decode_files(files, side=8, processes=2).pixels, decode_files(files, side=8).pixels
    )


def test_two_files_of_one_name_are_rejected(tmp_path: Path) -> None:
    """Else the one that is held out could be trained on in the other's place."""
    files = {"TRAIN/O/a.png": png(1), "TRAIN/R/b.png": png(2), "nested/set/TRAIN/O/a.png": png(3)}
    with pytest.raises(DatasetError, match=r"set/TRAIN/O/a\.png is in .* more than once"):
        read_files([folder(tmp_path, files)], "TRAIN")


@both
def test_an_archive_may_hold_several_sources(make: Maker, tmp_path: Path) -> None:
    """The folder around TRAIN names the source; files of one name in two sources are two images."""
    files = {f"{source}/TRAIN/{label}/1.png": png(at) for at, source in enumerate("ab") for label in "OR"}
    source = make(tmp_path, files | {"TRAIN/O/1.png": png(9)})
    images = decode_files(read_files([source], "TRAIN", [0.5]), side=8)
    assert sorted(set(images.sources.tolist())) == ["a", "b", "set"]
    assert images.take(images.sources == "a").weights is not None
    assert images.weights is not None
    assert images.weights.tolist() == [0.5] * 5


def test_images_are_turned_onto_their_sides_and_heads(tmp_path: Path) -> None:
    """By 90°, 180°, 270°, and so on: their first rows are then left, below, right, left."""
    source = folder(tmp_path, {f"TRAIN/{label}/{at}.png": png(9) for at in range(2) for label in "OR"})
    images = decode_files(read_files([source], "TRAIN"), side=8)
    images.pixels[:, 0] = 200
    turned = images.turned().pixels[..., 0] == 200
    assert [(image.all(axis=1).tolist(), image.all(axis=0).tolist()) for image in turned] == [
        ([False] * 8, [True] + [False] * 7),
        ([False] * 7 + [True], [False] * 8),
        ([False] * 8, [False] * 7 + [True]),
        ([False] * 8, [True] + [False] * 7),
    ]


def test_classes_count_alike_whatever_the_sources_hold() -> None:
    """A source of one class alone must not shift the balance; a heavier source keeps counting more."""
    labels = np.array([0, 0, 1, 1, 1, 1])
    weights = balanced(labels, np.array([1.0, 1.0, 1.0, 1.0, 2.0, 2.0]))
    assert weights.mean() == pytest.approx(1)
    assert weights[labels == 0].sum() == pytest.approx(weights[labels == 1].sum())
    assert weights[4] == pytest.approx(2 * weights[3])


@pytest.mark.parametrize("compression", ["gz", "xz"])
def test_a_damaged_archive_is_named(tmp_path: Path, compression: str) -> None:
    """Every error of the decompressor becomes one sentence with the file's name."""
    path = tmp_path / f"set.tar.{compression}"
    with tarfile.open(path, f"w:{compression}") as tar:  # type: ignore[call-overload]
        entry = tarfile.TarInfo("TRAIN/O/a.png")
        entry.size = 20_000
        tar.addfile(entry, io.BytesIO(np.random.default_rng(1).bytes(20_000)))
    content = bytearray(path.read_bytes())
    content[5_000:15_000] = bytes(10_000)
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="nor a readable tar archive"):
        read_files([path], "TRAIN")
