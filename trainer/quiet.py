"""Keeps TensorFlow's start-up notices out of the way of the progress bar."""

import os


def quiet_tensorflow() -> None:
    """Show only errors of TensorFlow's C++ side; call before TensorFlow is first imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
