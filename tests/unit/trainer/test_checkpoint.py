"""A checkpoint brings everything back, and only into the run that wrote it."""

from __future__ import annotations

import resource
from pathlib import Path

import keras
import numpy as np
import pytest

from trainer.checkpoint import CHECKPOINT_NAME, Position, restore, save
from trainer.config import load_config
from trainer.errors import CheckpointError, OutputError

CONFIG = load_config()
WEIGHTS = {"name": "w.weights.h5", "sha256": "0" * 64}

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def variables(value: float) -> list[keras.Variable]:
    """Two variables of different shapes and types, as networks and optimizers have them."""
    return [
        keras.Variable(np.full((2, 3), value, np.float32)),
        keras.Variable(np.int64(value), dtype="int64", trainable=False),
    ]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A checkpoint in epoch 2, step 7, of variables that are 5."""
    path = tmp_path / CHECKPOINT_NAME
    position = Position(epoch=2, step=7, loss_sum=2.5, seconds=1.5, history=[{"loss": 0.3}])
    save(path, position, variables(5), config=CONFIG, data_digest="abc", weights=WEIGHTS)
    return path


def test_everything_comes_back(written: Path) -> None:
    """Position, history and every variable are as they were saved."""
    fresh = variables(0)
    position = restore(written, fresh, config=CONFIG, data_digest="abc", weights=WEIGHTS)
    assert position == Position(epoch=2, step=7, loss_sum=2.5, seconds=1.5, history=[{"loss": 0.3}])
    np.testing.assert_array_equal(np.asarray(fresh[0]), np.full((2, 3), 5))
    assert int(np.asarray(fresh[1])) == 5


def test_saving_leaves_one_file(written: Path) -> None:
    """The partial file is renamed, so a crash while writing costs nothing that was saved before."""
    save(written, Position(), variables(1), config=CONFIG, data_digest="abc", weights=WEIGHTS)
    assert list(written.parent.iterdir()) == [written]


def test_a_full_disk_leaves_the_checkpoint_of_before(written: Path) -> None:
    """The system refuses the write half-way: one sentence, no partial file, the earlier run comes back."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        big = [keras.Variable(np.zeros(100_000, np.float32))]
        with pytest.raises(OutputError, match=r"cannot be written \(File too large\). Free some space"):
            save(written, Position(), big, config=CONFIG, data_digest="abc", weights=WEIGHTS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(written.parent.iterdir()) == [written]
    assert restore(written, variables(0), config=CONFIG, data_digest="abc", weights=WEIGHTS).epoch == 2


def test_the_best_epoch_is_the_last_of_equals() -> None:
    """Loss on held-out images decides; before the first epoch there is none."""
    assert Position().best == {}
    history = [{"epoch": at + 1, "held_out_loss": value} for at, value in enumerate((0.4, 0.3, 0.3, 0.5))]
    assert Position(epoch=4, history=history).best["epoch"] == 3


def test_another_configuration_is_rejected(written: Path) -> None:
    """Half a run with one configuration and half with another would be neither."""
    other = CONFIG.model_copy(update={"seed": CONFIG.seed + 1})
    with pytest.raises(CheckpointError, match="another configuration"):
        restore(written, variables(0), config=other, data_digest="abc", weights=WEIGHTS)


def test_other_images_are_rejected(written: Path) -> None:
    """With other images the validation part would be another one, too."""
    with pytest.raises(CheckpointError, match="other images"):
        restore(written, variables(0), config=CONFIG, data_digest="xyz", weights=WEIGHTS)


def test_other_weights_are_rejected(written: Path) -> None:
    """The manifest would name weights that the run did not begin with."""
    with pytest.raises(CheckpointError, match="other weights"):
        restore(
            written, variables(0), config=CONFIG, data_digest="abc", weights={**WEIGHTS, "sha256": "1" * 64}
        )


@pytest.mark.parametrize("kept", [0, 200])
def test_a_damaged_file_is_rejected(written: Path, kept: int) -> None:
    """A file that is empty or breaks off is named, not half read."""
    written.write_bytes(written.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="cannot be read"):
        restore(written, variables(0), config=CONFIG, data_digest="abc", weights=WEIGHTS)
