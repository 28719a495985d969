"""The model: the description of its folder, and its execution."""
