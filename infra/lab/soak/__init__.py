"""A stack under load and under fire, and the proof that it lost nothing."""
