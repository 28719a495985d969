"""`python -m api.export`: exports from the Redis and storage that the environment names."""

from __future__ import annotations

from api.export.command import export
from core.settings import load_settings

if __name__ == "__main__":
    export(prog_name="python -m api.export", obj=load_settings)
