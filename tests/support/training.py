"""A tiny set of images and random weights, to train with."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from tests.support.pth import tiny_teacher, write_pth

CONFIG = """
[data]
cache_side = 128
validation_share = 0.25
unseen_share = 0.1
decode_processes = 1
[head]
epochs = 40
[fine_tune]
sides = [32]
batch = 8
warmup_steps = 1
trainable_after = "block_15_add"
[settle]
epochs = 1
[knowledge]
side = 32
[quantize]
steps = 2
batch = 4
"""


def picture(label: int, rng: np.random.Generator) -> bytes:
    """A PNG that the ImageNet weights are not needed for: reddish noise is O, bluish is R."""
    pixels = rng.integers(0, 90, (48, 64, 3), dtype=np.uint8)
    pixels[..., 2 * label] += 160
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def image_set(root: Path) -> list[Path]:
    """Write TRAIN as a folder, TEST as a tar archive; one test image is also in TRAIN, one file is broken.

    Returns:
        The folder, the archive, and the folder of a source that has one class alone.
    """
    rng = np.random.default_rng(3)
    train_folder, archive = root / "set", root / "test.tar"
    for folder, label in (("O", 0), ("R", 1)):
        (train_folder / "TRAIN" / folder).mkdir(parents=True)
        for at in range(24):
            (train_folder / "TRAIN" / folder / f"{folder}_{at}.png").write_bytes(picture(label, rng))
    boxes = root / "trashnet" / "TRAIN" / "R"
    boxes.mkdir(parents=True)
    for at in range(12):
        (boxes / f"box_{at}.png").write_bytes(picture(1, rng))
    (train_folder / "TRAIN" / "O" / "O_broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    with tarfile.open(archive, "w") as tar:
        files = [
            (f"TEST/{folder}/{folder}_{100 + at}.png", picture(label, rng))
            for folder, label in (("O", 0), ("R", 1))
            for at in range(12)
        ]
        files.append(("TEST/O/O_leak.png", (train_folder / "TRAIN/O/O_0.png").read_bytes()))
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return [train_folder, archive, root / "trashnet"]


def random_weights(root: Path) -> Path:
    """Write random MobileNetV2 weights with batch-norm statistics to match, or nothing would come through.

    Beside them lie a classifier, `top.npz`, and a teacher, `lite.pth`.
    """
    import keras

    from trainer.network import empty_backbone

    keras.utils.set_random_seed(1)
    backbone = empty_backbone()
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0  # one batch in training mode then sets the statistics
    backbone(keras.random.uniform((16, 128, 128, 3), -1, 1), training=True)
    path = root / "random.weights.h5"
    backbone.save_weights(path)
    write_pth(path.with_name("lite.pth"), tiny_teacher())
    kernel = np.random.default_rng(1).normal(0, 0.1, (1280, 1000)).astype(np.float16)
    np.savez(path.with_name("top.npz"), kernel=kernel, bias=np.zeros(1000, np.float32))
    return path


def train_arguments(data: list[Path], weights: Path, root: Path, name: str) -> list[str]:
    """Return the command's arguments for a run of `CONFIG` that writes `root/name`."""
    (root / "tiny.toml").write_text(CONFIG)
    weighted = [*map(str, data[:2]), *(f"{source}=0.5" for source in data[2:])]
    arguments = [option for source in weighted for option in ("--data", source)]
    arguments += ["--weights", str(weights), "--out", str(root / name)]
    arguments += ["--classifier", str(weights.with_name("top.npz"))]
    arguments += ["--teacher", str(weights.with_name("lite.pth"))]
    return [*arguments, "--config", str(root / "tiny.toml")]
