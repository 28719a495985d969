"""The teacher: its file is read without running code in it, and its prior separates artefacts from food."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.pth import tiny_teacher, write_pth
from trainer.errors import WeightsError
from trainer.teacher import PRIOR_LIMIT, build_teacher, prior, teach
from trainer.torch_file import read_weights

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def png(seed: int) -> bytes:
    """A PNG of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def test_tensors_are_read_as_they_were_written(tmp_path: Path) -> None:
    """Names, shapes and numbers."""
    arrays = tiny_teacher()
    write_pth(tmp_path / "lite.pth", arrays)
    tensors = read_weights(tmp_path / "lite.pth")
    assert tensors.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(tensors[name], array)


def test_nothing_else_is_unpickled(tmp_path: Path) -> None:
    """A file that would run a program is rejected, and the program does not run."""

    class Harm:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "harmed",)

    with (tmp_path / "bad.pth").open("wb") as stream:
        for part in (1, 2, 3, {"weight": Harm()}):
            pickle.dump(part, stream, protocol=2)
    with pytest.raises(WeightsError, match="is not a PyTorch weights file"):
        read_weights(tmp_path / "bad.pth")
    assert not (tmp_path / "harmed").exists()


def test_other_weights_are_rejected(tmp_path: Path) -> None:
    """A missing file, and the weights of another network, each in a sentence."""
    with pytest.raises(WeightsError, match=r"nowhere\.pth cannot be read"):
        build_teacher(tmp_path / "nowhere.pth", 32)
    write_pth(tmp_path / "other.pth", {"weight": np.zeros((2, 2), np.float32)})
    with pytest.raises(WeightsError, match="does not hold the weights of EfficientNet-lite"):
        build_teacher(tmp_path / "other.pth", 32)


def test_it_says_the_same_of_each_image_in_any_batch(tmp_path: Path) -> None:
    """On LiteRT as in Keras, with any other images in the call."""
    write_pth(tmp_path / "lite.pth", tiny_teacher())
    files = [png(at) for at in range(9)]
    outputs = teach(tmp_path / "lite.pth", files, side=32, threads=1)
    assert outputs.shape == (9, 1000)
    np.testing.assert_array_equal(outputs[8], teach(tmp_path / "lite.pth", files[8:], side=32, threads=1)[0])
    from core.images import decode

    model = build_teacher(tmp_path / "lite.pth", 32)
    pixels = np.stack([decode(file, side=32) for file in files]).astype(np.float32)
    np.testing.assert_allclose(outputs, np.asarray(model(pixels)), rtol=0.01, atol=0.05)


def test_the_prior_tells_artefacts_from_food() -> None:
    """Log-odds: positive of a plate, negative of a banana, and no surer than its limit."""
    logits = np.zeros((3, 1000))
    logits[0, 923] = 9  # plate
    logits[1, 954] = 9  # banana
    logits[2, 923] = 100
    plate, banana, sure = prior(logits)
    assert plate > 0 > banana
    assert sure == PRIOR_LIMIT
