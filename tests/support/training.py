"""A tiny set of images and random weights, to train with."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from tests.support.pth import tiny_teacher, write_pth


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
        The folder and the archive.
    """
    rng = np.random.default_rng(3)
    train_folder, archive = root / "set", root / "test.tar"
    for folder, label in (("O", 0), ("R", 1)):
        (train_folder / "TRAIN" / folder).mkdir(parents=True)
        for at in range(24):
            (train_folder / "TRAIN" / folder / f"{folder}_{at}.png").write_bytes(picture(label, rng))
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
    return [train_folder, archive]


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
