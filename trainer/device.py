"""The device for training."""

from __future__ import annotations

import os

import tensorflow as tf


def device() -> str:
    """Return the name of TensorFlow's training device: the first GPU if there is one, else the CPU's cores.

    TensorFlow then allocates GPU memory on demand, so that other programs can use the GPU.
    """
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, enable=True)
    if not gpus:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return f"{cores} CPU cores"
    details = tf.config.experimental.get_device_details(gpus[0])
    return str(details.get("device_name", "a GPU"))
