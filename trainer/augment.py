"""Augmentation: random changes of training images, against differences of cameras and files.

The test images differ from the training images in size, sharpness and compression; crops, blur,
sharpening and JPEG stand for that, light and colour for other cameras.
"""

from __future__ import annotations

import math
from typing import Any, Final

import tensorflow as tf

from trainer.config import AugmentConfig

Tensor = Any
"""A `tf.Tensor`; TensorFlow ships no type information."""

_LUMA: Final = (0.299, 0.587, 0.114)  # ITU-R BT.601


class _Dice:
    """Random numbers that depend only on one seed and the order of calls."""

    def __init__(self, seed: Tensor, count: int) -> None:
        self._seed = seed
        self._count = count

    def between(self, low: float, high: float, *shape: int) -> Tensor:
        """Return float32 (count, *shape), uniform."""
        return tf.random.stateless_uniform((self._count, *shape), self._next(), low, high)

    def normal(self, *shape: int) -> Tensor:
        """Return float32 (count, *shape), standard normal."""
        return tf.random.stateless_normal((self._count, *shape), self._next())

    def happens(self, probability: float) -> Tensor:
        """Return bool (count,)."""
        return self.between(0, 1) < probability

    def _next(self) -> Tensor:
        self._seed = tf.random.experimental.stateless_fold_in(self._seed, 1)
        return self._seed


def augment(images: Tensor, seed: Tensor, config: AugmentConfig, *, side: int) -> Tensor:
    """Change each image of a batch at random.

    Args:
        images: uint8 (N, S, S, 3) with N and S known.
        seed: int32 (2,); the same seed gives the same changes.
        config: strengths.
        side: of the result, pixels.

    Returns:
        float32 (N, side, side, 3) in 0..255.
    """
    dice = _Dice(seed, images.shape[0])
    changed = _crop(tf.cast(images, tf.float32), dice, config, side)
    changed = _sharpness(changed, dice, config)
    changed = _colour(changed, dice, config)
    changed = _light(changed, dice, config)
    changed = _clip(changed + dice.between(0, config.noise, 1, 1, 1) * dice.normal(side, side, 3))
    changed = _jpeg(changed, dice, config)
    return _erase(changed, dice, config)


def _crop(images: Tensor, dice: _Dice, config: AugmentConfig, side: int) -> Tensor:
    """Cut, turn and flip in one resampling, which blurs less than three."""
    scale = tf.sqrt(dice.between(config.area[0], config.area[1]))
    aspect = tf.exp(dice.between(-0.5, 0.5) * math.log(config.aspect))
    angle = dice.between(-1, 1) * math.radians(config.rotation)
    flip_x = tf.where(dice.happens(0.5), -1.0, 1.0)
    flip_y = tf.where(dice.happens(config.vertical_flip), -1.0, 1.0)
    source = float(images.shape[1])
    width, height = scale * aspect, scale / aspect
    # Before it is turned, the crop lies inside the image; a larger one is centred at random around it.
    center_x = source / 2 + dice.between(-0.5, 0.5) * tf.abs(1 - width) * source
    center_y = source / 2 + dice.between(-0.5, 0.5) * tf.abs(1 - height) * source
    step_x, step_y = flip_x * width * source / side, flip_y * height * source / side
    a0, a1 = tf.cos(angle) * step_x, -tf.sin(angle) * step_y
    b0, b1 = tf.sin(angle) * step_x, tf.cos(angle) * step_y
    middle = (side - 1) / 2
    zero = tf.zeros_like(a0)
    transforms = tf.stack(
        [
            a0,
            a1,
            center_x - 0.5 - (a0 + a1) * middle,
            b0,
            b1,
            center_y - 0.5 - (b0 + b1) * middle,
            zero,
            zero,
        ],
        axis=1,
    )
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=transforms,
        output_shape=[side, side],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )


def _sharpness(images: Tensor, dice: _Dice, config: AugmentConfig) -> Tensor:
    """Move each image towards its blurred self, or away from it (unsharp mask)."""
    amount = dice.between(-config.sharpen, config.blur, 1, 1, 1)
    weights = [math.exp(-0.5 * at * at) for at in range(-2, 3)]  # sigma 1 px
    total = sum(weights)
    line = tf.tile(tf.reshape([weight / total for weight in weights], (5, 1, 1, 1)), (1, 1, 3, 1))
    padded = tf.pad(images, [[0, 0], [2, 2], [2, 2], [0, 0]], "REFLECT")
    blurred = tf.nn.depthwise_conv2d(padded, line, [1, 1, 1, 1], "VALID")
    blurred = tf.nn.depthwise_conv2d(blurred, tf.transpose(line, (1, 0, 2, 3)), [1, 1, 1, 1], "VALID")
    return images + amount * (blurred - images)


def _colour(images: Tensor, dice: _Dice, config: AugmentConfig) -> Tensor:
    """Contrast, brightness, saturation and hue, the last two as one 3x3 matrix per image."""
    contrast = dice.between(1 - config.contrast, 1 + config.contrast, 1, 1, 1)
    brightness = dice.between(1 - config.brightness, 1 + config.brightness, 1, 1, 1)
    saturation = dice.between(1 - config.saturation, 1 + config.saturation, 1, 1)
    saturation = tf.where(dice.happens(config.greyscale)[:, None, None], 0.0, saturation)
    mean = tf.reduce_mean(images, axis=(1, 2, 3), keepdims=True)
    images = (mean + (images - mean) * contrast) * brightness
    grey = tf.constant([_LUMA] * 3)
    turn = dice.between(-1, 1)
    # Squared: half of the images turn by less than a quarter of the maximum, and keep plausible colours.
    hue = _hue_rotation(turn * tf.abs(turn) * math.radians(config.hue))
    matrix = grey + saturation * (hue - grey)
    return tf.einsum("nhwc,ndc->nhwd", images, matrix)


def _hue_rotation(angle: Tensor) -> Tensor:
    """Return (N, 3, 3): turning colours around the grey axis (Rodrigues' rotation formula)."""
    cos, sin = tf.cos(angle)[:, None, None], tf.sin(angle)[:, None, None]
    cross = tf.constant([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    return cos * tf.eye(3) + sin * cross + (1 - cos) / 3


def _light(images: Tensor, dice: _Dice, config: AugmentConfig) -> Tensor:
    """Make one side brighter than the other."""
    side = images.shape[1]
    ramp = tf.linspace(-1.0, 1.0, side)
    slope = dice.between(-config.uneven_light, config.uneven_light, 2)
    plane = slope[:, 0, None, None] * ramp[None, :, None] + slope[:, 1, None, None] * ramp[None, None, :]
    return images * (1 + plane[..., None])


def _jpeg(images: Tensor, dice: _Dice, config: AugmentConfig) -> Tensor:
    chosen = dice.happens(config.jpeg)
    quality = tf.cast(dice.between(*config.jpeg_quality), tf.int32)

    def store(item: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        image, wanted, at = item
        return tf.cond(wanted, lambda: _stored(image, at), lambda: image)

    return tf.map_fn(store, (images, chosen, quality), fn_output_signature=images.dtype)


def _stored(image: Tensor, quality: Tensor) -> Tensor:
    again = tf.image.adjust_jpeg_quality(image / 255.0, quality)
    return tf.ensure_shape(again * 255.0, image.shape)


def _erase(images: Tensor, dice: _Dice, config: AugmentConfig) -> Tensor:
    """Cover a rectangle of up to half of each side with one grey level (Zhong et al. 2017)."""
    at = tf.linspace(0.0, 1.0, images.shape[1])[None, :]
    center, half = dice.between(0, 1, 2), dice.between(0.05, 0.25, 2)
    rows = tf.abs(at - center[:, :1]) < half[:, :1]
    columns = tf.abs(at - center[:, 1:]) < half[:, 1:]
    covered = rows[:, :, None] & columns[:, None, :] & dice.happens(config.erase)[:, None, None]
    return tf.where(covered[..., None], dice.between(0, 255, 1, 1, 1), images)


def _clip(images: Tensor) -> Tensor:
    return tf.clip_by_value(images, 0.0, 255.0)
