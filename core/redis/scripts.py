"""The Lua scripts in `core/redis/lua`."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from core.redis import keys

_NAMES: Final = f"local {', '.join(keys.LUA)} = {', '.join(map(repr, keys.LUA.values()))} "


def load_script(name: str) -> str:
    """Return the text of the script `lua/{name}.lua`; in it the names of `keys.LUA` are local variables."""
    # On the script's first line, so that Redis' errors name the lines of the file.
    return _NAMES + (files("core.redis") / "lua" / f"{name}.lua").read_text(encoding="utf-8")
