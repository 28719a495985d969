"""SeaweedFS, the S3 server of docker-compose.yml, started as its container starts it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from tests.support.servers import REPOSITORY, Server, free_port, program

ACCESS_KEY, SECRET_KEY = "seaweedaccess", "seaweedsecretofsomelength"

_SCRIPT = REPOSITORY / "infra" / "docker" / "s3.sh"


def make_server(folder: Path) -> Server:
    """Return the unstarted server on an empty folder, with the script's options except paths and ports."""
    script = _SCRIPT.read_text(encoding="utf-8")
    identities = re.search(r"<<END\n(.*?)\nEND\n", script, re.DOTALL)
    started = re.search(r"^exec (.*)", script, re.DOTALL | re.MULTILINE)
    assert identities is not None
    assert started is not None
    text = identities[1].replace("$S3_ACCESS_KEY", ACCESS_KEY).replace("$S3_SECRET_KEY", SECRET_KEY)
    config = folder / "s3.json"
    config.write_text(json.dumps(json.loads(text)), encoding="utf-8")
    (folder / "data").mkdir()
    port = free_port()
    ours = {
        "-dir": str(folder / "data"),
        "-ip": "127.0.0.1",
        "-ip.bind": "127.0.0.1",
        "-s3.port": str(port),
        "-s3.config": str(config),
        **{f"-{part}.port": str(free_port()) for part in ("master", "volume", "filer")},
        **{f"-{part}.port.grpc": str(free_port()) for part in ("master", "volume", "filer", "s3")},
    }
    weed, *options = shlex.split(started[1].replace("\\\n", " "))
    assert weed == "weed"
    kept = [option for option in options if option.partition("=")[0] not in ours]
    command = [program("weed"), *kept, *(f"{name}={value}" for name, value in ours.items())]
    return Server(command, folder / "log", port=port)
