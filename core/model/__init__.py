"""The model: how its folder is described, and how it is run."""
