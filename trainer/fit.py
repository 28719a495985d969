"""Training: first the head on frozen features, then the later layers on augmented images.

A plain loop instead of `Model.fit`: it keeps the moving average of the weights, can stop and continue
at any step, and leaves XLA off, which is 7 times slower than TensorFlow's own kernels on CPUs.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from types import FrameType
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.augment import augment
from trainer.calibrate import calibrated_loss
from trainer.checkpoint import Position
from trainer.config import AugmentConfig, FineTuneConfig, HeadConfig, KnowledgeConfig, TrainConfig
from trainer.dataset import ImageSet
from trainer.errors import DivergedError, TrainingInterrupted
from trainer.network import CLASSES, Model, at_side, backbone_of, build_student, unfreeze_after
from trainer.teacher import PRIOR_LIMIT

_RIDGE: Final = 0.1  # of the mean variance of a feature
_FORWARD_BATCH: Final = 8  # images a call when nothing is trained: 153 images/s on 2 cores, of 64: 112

Tensor = Any
"""A `tf.Tensor` or `tf.Variable`; TensorFlow ships no type information."""

OnStep = Callable[[int, int, float, float], None]
"""Called with (epoch, images of the step, cost of one relative to one at 128 px, loss)."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """Targets of the training images besides the labels.

    `weights` is float32 (N,), the weight of each label, 1 on average. `prior`, float32 (N,), and `classes`,
    float16 (N, 1000), are the teacher's logits; None without a teacher.
    """

    weights: npt.NDArray[np.float32]
    prior: npt.NDArray[np.float32] | None = None
    classes: npt.NDArray[np.float16] | None = None

    def of(self, chosen: npt.NDArray[np.int64]) -> list[Tensor]:
        """Return the three for a batch; zeros for a teacher's that is not there."""
        prior = np.zeros(len(chosen), np.float32) if self.prior is None else self.prior[chosen]
        classes = np.zeros((len(chosen), CLASSES)) if self.classes is None else self.classes[chosen]
        given = self.weights[chosen], prior, classes
        return [tf.constant(array, tf.float32) for array in given]


@dataclass
class TrainingState:
    """A network in training, the moving average of its weights, the best of those, and the optimizer."""

    network: Model
    average: Model
    best: list[Tensor]  # weights of `average` after the best epoch
    optimizer: Any

    @property
    def variables(self) -> list[Tensor]:
        """Everything that a checkpoint must hold."""
        return [*self.network.variables, *self.average.variables, *self.best, *self.optimizer.variables]


def features(network: Model, pixels: npt.NDArray[np.uint8], on_batch: Callable[[int], None]) -> Any:
    """Return the pooled features of unchanged images: uint8 (N, 128, 128, 3) to float32 (N, 1280)."""
    return _forward(network, ["pool"], pixels, on_batch)


def logits(network: Model, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return the network's logits of unchanged images: uint8 (N, 128, 128, 3) to float32 (N,)."""
    return np.asarray(_forward(network, ["head"], pixels, lambda _: None)[:, 0], np.float32)


def opinions(network: Model, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return `build_student`'s logit and prior of unchanged images, float32 (N, 2)."""
    return np.asarray(_forward(network, ["head", "prior"], pixels, lambda _: None), np.float32)


def fit_head(
    inputs: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    weights: npt.NDArray[np.float32],
    config: HeadConfig,
    *,
    seed: int,
) -> tuple[npt.NDArray[np.float32], float]:
    """Fit logistic regression to features by AdamW.

    Args:
        inputs: float32 (N, 1280).
        labels: int64 (N,), 0 or 1.
        weights: float32 (N,), how much each counts, 1 on average.
        config: batch, epochs, learning rate.
        seed: of the order of images.

    Returns:
        The kernel, float32 (1280,), and the bias.
    """
    kernel = keras.Variable(np.zeros(inputs.shape[1], np.float32))
    bias = keras.Variable(np.float32(0))
    optimizer = keras.optimizers.AdamW(config.learning_rate, weight_decay=config.weight_decay)
    optimizer.build([kernel, bias])
    batch = min(config.batch, len(labels))
    steps = len(labels) // batch

    def step(chosen: Tensor, targets: Tensor, counts: Tensor) -> None:
        with tf.GradientTape() as tape:
            logit = tf.linalg.matvec(chosen, kernel.value) + bias.value
            loss = tf.reduce_mean(counts * tf.nn.sigmoid_cross_entropy_with_logits(targets, logit))
        gradients = tape.gradient(loss, [kernel.value, bias.value])
        optimizer.apply(gradients)

    compiled = tf.function(step, jit_compile=False)
    rng = np.random.default_rng(seed)
    for epoch in range(config.epochs):
        order = rng.permutation(len(labels))
        for at in range(steps):
            chosen = order[at * batch : (at + 1) * batch]
            rate = cosine(epoch * steps + at, config.epochs * steps)
            optimizer.learning_rate.assign(config.learning_rate * rate)
            targets = tf.constant(labels[chosen], tf.float32)
            compiled(tf.constant(inputs[chosen]), targets, tf.constant(weights[chosen]))
    return np.asarray(kernel, np.float32), float(np.asarray(bias))


def fit_linear(
    inputs: npt.NDArray[np.float32], targets: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float32], float]:
    """Fit linear regression, ridged, to features: float32 (N, 1280) and (N,) to kernel (1280,) and bias."""
    mean = inputs.mean(0)
    centred = inputs - mean
    moments = centred.T @ centred / np.float32(len(inputs))
    moments[np.diag_indices_from(moments)] += _RIDGE * np.trace(moments) / len(moments)
    kernel = np.linalg.solve(moments, centred.T @ (targets - targets.mean()) / np.float32(len(inputs)))
    return kernel.astype(np.float32), float(targets.mean() - mean @ kernel)


def start(network: Model, config: FineTuneConfig) -> TrainingState:
    """Prepare fine-tuning of a student whose heads are set; average and best begin as it does."""
    average = build_student(keras.models.clone_model(backbone_of(network)), dropout=config.dropout)
    copy_weights(average.weights, network.weights)
    unfreeze_after(network, config.trainable_after, batch_norm_momentum=config.batch_norm_momentum)
    optimizer = keras.optimizers.AdamW(config.learning_rate, weight_decay=config.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    optimizer.build(network.trainable_variables)
    best = [keras.Variable(weight, trainable=False) for weight in average.weights]
    return TrainingState(network, average, best, optimizer)


def fine_tune(  # noqa: PLR0917 - what it trains, on what, and how
    state: TrainingState,
    position: Position,
    train: ImageSet,
    lesson: Lesson,
    held_out: Mapping[str, ImageSet],
    config: TrainConfig,
    *,
    on_step: OnStep,
    on_epoch: Callable[[dict[str, float]], None],
    save: Callable[[], None],
) -> None:
    """Train from `position` to the last epoch.

    After `patience` epochs without an improvement, the epochs in which colours settle follow.

    `state` and `position` change in place; `state.average` ends as it was after the best epoch.

    Args:
        state: the networks in training.
        position: the start; kept up to date for `save`.
        train: images at `data.cache_side`.
        lesson: targets beside the labels.
        held_out: sets of images at 128 px by name; the mean of the losses on them after each epoch says
            which was the best.
        config: the whole configuration.
        on_step: called after each step.
        on_epoch: called with each epoch's entry of the history.
        save: called after each epoch, and before stopping early.

    Raises:
        TrainingInterrupted: after Ctrl-C or SIGTERM, with the checkpoint saved.
        DivergedError: the loss is not a number any more.
    """
    settings = config.fine_tune
    batch = min(settings.batch, len(train))
    steps = len(train) // batch
    step_at: dict[tuple[int, bool], Any] = {}
    with _interruptible() as stopped:
        while position.epoch < len(config.sides):
            if not config.settles(position.epoch) and _stagnant(position, settings.patience):
                position.epoch = len(settings.sides)
                continue
            kind = side, _ = config.sides[position.epoch], config.settles(position.epoch)
            if kind not in step_at:
                source, changes = train.pixels.shape[1:], config.augmentation(position.epoch)
                step_at[kind] = _train_step(state, config, changes, side=side, source=source, batch=batch)
            order = np.random.default_rng((config.seed, position.epoch)).permutation(len(train))
            while position.step < steps:
                began = time.monotonic()
                done = position.epoch * steps + position.step
                chosen = order[position.step * batch : (position.step + 1) * batch]
                state.optimizer.learning_rate.assign(_learning_rate(config, done, steps))
                loss = float(
                    step_at[kind](
                        tf.constant(train.pixels[chosen]),
                        tf.constant(train.labels[chosen], tf.float32),
                        tf.constant([config.seed, done], tf.int32),
                        # Early on the average would be mostly the start; (1 + t) / (10 + t) lets it follow.
                        tf.constant(min(settings.ema_decay, (1 + done) / (10 + done)), tf.float32),
                        *lesson.of(chosen),
                    )
                )
                if not math.isfinite(loss):
                    raise _diverged(f"The loss is {loss}", position)
                position.loss_sum += loss
                position.step += 1
                position.seconds += time.monotonic() - began
                on_step(position.epoch, batch, config.cost(position.epoch), loss)
                if stopped.is_set():
                    save()
                    raise TrainingInterrupted(
                        f"Stopped in epoch {position.epoch + 1}; the same command with --resume continues."
                    )
            entry = {"epoch": position.epoch + 1, "side": side, "loss": position.loss_sum / max(1, steps)}
            entry |= validate(state.average, held_out)
            if not math.isfinite(entry["held_out_loss"]):
                raise _diverged(f"The loss on held-out images is {entry['held_out_loss']}", position)
            position.history.append(entry)
            if position.best is entry:
                copy_weights(state.best, state.average.weights)
            position.epoch, position.step, position.loss_sum = position.epoch + 1, 0, 0.0
            save()
            on_epoch(entry)
    copy_weights(state.average.weights, state.best)


def _diverged(what: str, position: Position) -> DivergedError:
    return DivergedError(
        f"{what} in epoch {position.epoch + 1}: lower fine_tune.learning_rate, "
        "delete the folder OUT.training, and train again."
    )


def _stagnant(position: Position, patience: int) -> bool:
    """Return whether the last `patience` epochs brought no improvement."""
    return position.epoch - position.best.get("epoch", position.epoch) >= patience


def _train_step(
    state: TrainingState,
    config: TrainConfig,
    changes: AugmentConfig,
    *,
    side: int,
    source: tuple[int, ...],
    batch: int,
) -> Any:
    network = at_side(state.network, side)
    trained = [variable.value for variable in state.network.trainable_variables]
    averaged = [
        (mine.value, its.value)
        for mine, its in zip(state.average.weights, state.network.weights, strict=True)
    ]

    def step(  # noqa: PLR0917 - TensorFlow matches its signature by place
        images: Tensor,
        labels: Tensor,
        seed: Tensor,
        decay: Tensor,
        weights: Tensor,
        prior: Tensor,
        classes: Tensor,
    ) -> Tensor:
        changed = augment(images, seed, changes, side=side)
        with tf.GradientTape() as tape:
            logit, prior_logit, class_logits = network(changed, training=True)
            loss = tf.reduce_mean(weights * tf.nn.sigmoid_cross_entropy_with_logits(labels, logit))
            total = loss + _knowledge_loss(config.knowledge, prior_logit, class_logits, prior, classes)
        # Without a teacher, two outputs of the network have no target.
        gradients = tape.gradient(total, trained, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        state.optimizer.apply(gradients)
        for mine, its in averaged:
            mine.assign(decay * mine + (1 - decay) * its)
        return loss

    signature = [
        tf.TensorSpec((batch, *source), tf.uint8),
        tf.TensorSpec((batch,), tf.float32),
        tf.TensorSpec((2,), tf.int32),
        tf.TensorSpec((), tf.float32),
        tf.TensorSpec((batch,), tf.float32),
        tf.TensorSpec((batch,), tf.float32),
        tf.TensorSpec((batch, CLASSES), tf.float32),
    ]
    return tf.function(step, input_signature=signature, jit_compile=False)


def _knowledge_loss(
    config: KnowledgeConfig, prior_logit: Tensor, class_logits: Tensor, prior: Tensor, classes: Tensor
) -> Tensor:
    """Return the distillation loss: the prior's error and the classes' cross-entropy."""
    error = tf.reduce_mean(tf.square((prior_logit - prior) / PRIOR_LIMIT))
    targets = tf.nn.softmax(classes)
    entropy = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(targets, class_logits))
    return config.prior * error + config.classes * entropy


def copy_weights(to: Sequence[Tensor], weights: Sequence[Tensor]) -> None:
    """Give weights and batch-norm statistics the values of those of an equal network."""
    for mine, its in zip(to, weights, strict=True):
        mine.assign(its)


def validate(network: Model, held_out: Mapping[str, ImageSet]) -> dict[str, float]:
    """Return loss and accuracy at 0.5 of a network on each set of images at 128 px, and the mean loss.

    The loss is that after temperature scaling, of each set by itself: it compares how well networks tell the
    classes apart, more finely than accuracy does, and not how sure of it they were made to be.
    """
    measured: dict[str, float] = {}
    for name, images in held_out.items():
        outputs = logits(network, images.pixels)
        measured[f"{name}_loss"] = calibrated_loss(outputs, images.labels)
        measured[f"{name}_accuracy"] = float(np.mean((outputs >= 0) == (images.labels == 1)))
    return measured | {"held_out_loss": float(np.mean([measured[f"{name}_loss"] for name in held_out]))}


def _forward(
    network: Model, layers: Sequence[str], pixels: npt.NDArray[np.uint8], on_batch: Callable[[int], None]
) -> Any:
    """Return the outputs of layers, beside each other: float32 (N, all their channels)."""
    compiled = _compiled(network, *layers)
    batches = []
    for at in range(0, len(pixels), _FORWARD_BATCH):
        images = pixels[at : at + _FORWARD_BATCH]
        batches.append(compiled(tf.constant(images)).numpy())
        on_batch(len(images))
    return np.concatenate(batches)


@lru_cache(maxsize=4)
def _compiled(network: Model, *layers: str) -> Any:
    """Return a function of uint8 images; kept, because TensorFlow takes seconds to trace a network."""
    outputs = [network.get_layer(name).output for name in layers]
    model = keras.Model(network.inputs, outputs)

    def call(images: Tensor) -> Tensor:
        return tf.concat(model(tf.cast(images, tf.float32), training=False), axis=1)

    return tf.function(call, jit_compile=False, reduce_retracing=True)


def _learning_rate(config: TrainConfig, done: int, steps: int) -> float:
    """Return that of the step after `done` ones, with `steps` an epoch: a cosine for each of both stages."""
    first = steps * len(config.fine_tune.sides)
    if done >= first:
        return config.settle.learning_rate * cosine(done - first, steps * config.settle.epochs)
    warm = min(1.0, (done + 1) / (config.fine_tune.warmup_steps + 1))
    return config.fine_tune.learning_rate * warm * cosine(done, first)


def cosine(step: int, steps: int) -> float:
    """Return a learning rate's factor, from 1 to almost 0 (Loshchilov & Hutter 2017, without restarts)."""
    return 0.5 * (1 + math.cos(math.pi * step / steps))


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Turn Ctrl-C and SIGTERM into an event, checked between steps; a second signal ends at once."""
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        if stopped.is_set():
            signal.default_int_handler(number, frame)
        stopped.set()

    if threading.current_thread() is not threading.main_thread():  # Python allows handlers only there.
        yield stopped
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
