"""Input that `train` rejects: options, image sets, weights, and a full disk."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from infra.cli.train import train
from tests.support.training import image_set, random_weights

# Keras 3.15 converts its variables in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """TRAIN as a folder, TEST as a tar archive."""
    return image_set(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of MobileNetV2, a classifier and a teacher beside them."""
    return random_weights(tmp_path_factory.mktemp("weights"))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"--data": "nowhere"}, "does not exist"),
        ({"--weights": "nowhere.h5"}, "do not exist"),
        ({"--config": "nowhere.toml"}, "cannot be read"),
        ({"--out": "/dev/null/model"}, "name another --out"),
        ({"--out": "/"}, "name another --out"),
    ],
)
def test_bad_input_is_one_sentence_and_no_output(
    data: list[Path], weights: Path, tmp_path: Path, wrong: dict[str, str], said: str
) -> None:
    """Unusable options end with exit code 1 and a sentence, and nothing is written."""
    given = {"--data": str(data[0]), "--weights": str(weights), "--out": str(tmp_path / "model"), **wrong}
    result = CliRunner().invoke(train, [part for pair in given.items() for part in pair])
    assert result.exit_code == 1
    assert said in result.output
    assert isinstance(result.exception, SystemExit)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"TRAIN/O/": b"", "TRAIN/R/b.png": b"x"}, "TRAIN/O in"),
        ({"TRAIN/R/b.png": b"x"}, "both classes are needed"),
        ({"notes.txt": b"x"}, "expected the folders TRAIN/O and TRAIN/R"),
        ({"TRAIN/O/a.png": b"x", "TRAIN/R/b.png": b"x"}, "can be read"),
    ],
)
def test_folders_that_are_no_image_set(
    weights: Path, tmp_path: Path, files: dict[str, bytes], said: str
) -> None:
    """An empty class, one class only, other files, files that are no images: a sentence, nothing written."""
    for name, content in files.items():
        path = tmp_path / "set" / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_bytes(content)
    _rejected(tmp_path, said, "--data", str(tmp_path / "set"), "--weights", str(weights))


def test_weights_of_another_architecture(data: list[Path], tmp_path: Path) -> None:
    """They are named before any image is read."""
    import keras

    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    other.save_weights(tmp_path / "other.weights.h5")
    options = ("--data", str(data[0]), "--weights", str(tmp_path / "other.weights.h5"))
    _rejected(tmp_path, "do not fit MobileNetV2", *options)


def test_a_layer_that_is_not_there(data: list[Path], weights: Path, tmp_path: Path) -> None:
    """It is named before any image is read."""
    (tmp_path / "c.toml").write_text('[fine_tune]\ntrainable_after = "block_99_add"\n')
    options = ("--data", str(data[0]), "--weights", str(weights), "--config", str(tmp_path / "c.toml"))
    _rejected(tmp_path, "has no layer 'block_99_add'", *options)


def test_a_folder_that_holds_something_is_not_overwritten(
    data: list[Path], weights: Path, tmp_path: Path
) -> None:
    """It is rejected before any work."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.tflite").write_bytes(b"another")
    _rejected(tmp_path, "name a new folder", "--data", str(data[0]), "--weights", str(weights))


def test_a_disk_without_room(
    data: list[Path], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said before any work."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))
    _rejected(tmp_path, "free some space", "--data", str(data[0]), "--weights", str(weights))


def _rejected(folder: Path, said: str, *options: str) -> None:
    """Expect that `train` ends with 1 and a sentence, and writes nothing into `folder`."""
    before = sorted(folder.rglob("*"))
    result = CliRunner().invoke(train, [*options, "--out", str(folder / "model")])
    assert result.exit_code == 1
    assert said in result.output
    assert isinstance(result.exception, SystemExit)
    assert sorted(folder.rglob("*")) == before
