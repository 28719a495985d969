"""Keeps TensorFlow's start-up notices out of the way of the progress bar."""

import logging
import os


def quiet_tensorflow() -> None:
    """Show only TensorFlow's errors; call before it is first imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.getLogger("absl").setLevel(logging.ERROR)
