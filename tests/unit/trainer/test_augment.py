"""Augmentation changes every image within bounds, and the same way for the same seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.augment import augment
from trainer.config import AugmentConfig, load_config

FULL = load_config().augment
NONE = AugmentConfig(
    area=(1.0, 1.0), aspect=1.0, rotation=0, vertical_flip=0, brightness=0, contrast=0, saturation=0, hue=0,
    greyscale=0, uneven_light=0, blur=0, sharpen=0, noise=0, jpeg=0, jpeg_quality=(30, 95), erase=0,
)  # fmt: skip
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 40, 40, 3), dtype=np.uint8)


def changed(config: AugmentConfig, seed: int, side: int = 40) -> npt.NDArray[Any]:
    """The images after augmentation."""
    result = augment(tf.constant(IMAGES), tf.constant([7, seed]), config, side=side)
    return np.asarray(result.numpy())


def test_shape_and_range() -> None:
    """The result has the side asked for and stays in 0..255."""
    images = changed(FULL, 1, side=32)
    assert images.shape == (6, 32, 32, 3)
    assert images.min() >= 0
    assert images.max() <= 255
    assert np.isfinite(images).all()


def test_the_seed_decides() -> None:
    """A resumed run sees the images that the interrupted one would have seen."""
    np.testing.assert_array_equal(changed(FULL, 1), changed(FULL, 1))
    assert np.abs(changed(FULL, 1) - changed(FULL, 2)).mean() > 1


def test_nothing_asked_only_flips() -> None:
    """With every strength at zero each image is itself or its mirror image."""
    for image, result in zip(IMAGES.astype(np.float32), changed(NONE, 3), strict=True):
        differences = [np.abs(result - wanted).max() for wanted in (image, image[:, ::-1])]
        assert min(differences) < 0.01


def test_greyscale_has_equal_channels() -> None:
    """Without colour the three channels agree."""
    images = changed(NONE.model_copy(update={"greyscale": 1.0}), 3)
    np.testing.assert_allclose(images[..., 0], images[..., 2], atol=0.1)


def test_hue_keeps_greys() -> None:
    """Turning colours leaves grey pixels as they are."""
    grey = np.repeat(IMAGES[..., :1], 3, axis=-1)
    turned = augment(
        tf.constant(grey), tf.constant([7, 1]), NONE.model_copy(update={"hue": 90.0}), side=40
    ).numpy()
    np.testing.assert_allclose(turned[..., 0], turned[..., 1], atol=0.1)
