"""A Redis with two replicas, and a Sentinel that watches them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import redis

from infra.local.programs import REDIS
from tests.support.servers import Server, free_port, program, wait_until

MASTER: Final = "belts"
"""Name of the master."""

USER: Final = "stream"
PASSWORD: Final = "s3cret-of-redis"  # noqa: S105 - of servers that the test starts
SENTINEL_PASSWORD: Final = "s3cret-of-sentinel"  # noqa: S105
_ADMIN: Final = "s3cret-of-replication"


@dataclass
class Watched:
    """Three Redis servers, the first one the master at the start, and their Sentinel."""

    servers: list[Server]
    sentinel: Server

    @property
    def variables(self) -> dict[str, str]:
        """The settings; a Sentinel that is down is asked first."""
        return {
            "WASTESTREAM_REDIS_URL": f"redis://{USER}:{PASSWORD}@{MASTER}/0",
            "WASTESTREAM_REDIS_SENTINELS": f"127.0.0.1:{free_port()},127.0.0.1:{self.sentinel.port}",
            "WASTESTREAM_REDIS_SENTINEL_PASSWORD": SENTINEL_PASSWORD,
        }

    def admin(self, server: Server) -> redis.Redis:
        """Return a client of one server that may do everything."""
        assert server.port is not None
        return redis.Redis(port=server.port, password=_ADMIN, decode_responses=True)

    def replicates(self) -> bool:
        """Return whether the master has its replicas, and Sentinel knows all."""
        with self.admin(self.master()) as master, self.ask() as sentinel:
            state = sentinel.sentinel_masters()[MASTER]
            replicas = str(master.info("replication")).count("'online'")
            return bool(replicas == len(self.servers) - 1 == state["num-slaves"])

    def master(self) -> Server:
        """Return the server that Sentinel calls master."""
        with self.ask() as sentinel:
            port = int(sentinel.sentinel_get_master_addr_by_name(MASTER)[1])
        return next(server for server in self.servers if server.port == port)

    def replicas(self) -> list[Server]:
        """Return the other servers."""
        master = self.master()
        return [server for server in self.servers if server is not master]

    def ask(self) -> redis.Redis:
        """Return a client of Sentinel."""
        assert self.sentinel.port is not None
        return redis.Redis(port=self.sentinel.port, password=SENTINEL_PASSWORD, decode_responses=True)


@contextlib.contextmanager
def watched_redis(folder: Path, rules: str) -> Iterator[Watched]:
    """Run the four; the user `USER` of Redis has the rights `rules`."""
    ports = [free_port() for _ in range(3)]
    servers = [_server(folder / f"redis-{number}", port, rules) for number, port in enumerate(ports)]
    for server in servers[1:]:
        server.command += ["--replicaof", "127.0.0.1", str(ports[0])]
    sentinel = _sentinel(folder / "sentinel", ports[0])
    running = Watched(servers, sentinel)
    try:
        for server in (*servers, sentinel):
            server.start()
        wait_until(running.replicates, "the replicas to follow the master")
        yield running
    finally:
        for server in (sentinel, *servers):
            server.stop()


def _server(folder: Path, port: int, rules: str) -> Server:
    folder.mkdir(parents=True)
    (folder / "users.acl").write_text(
        f"user default on >{_ADMIN} ~* &* +@all\nuser {USER} on >{PASSWORD} {rules}\n", encoding="utf-8"
    )
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    options += ["--appendonly", "yes", "--maxmemory-policy", "noeviction", "--repl-diskless-sync-delay", "0"]
    options += ["--aclfile", str(folder / "users.acl"), "--masterauth", _ADMIN]
    return Server([program(*REDIS), *options], folder / "log", port=port)


def _sentinel(folder: Path, master: int) -> Server:
    folder.mkdir(parents=True)
    port = free_port()
    (folder / "sentinel.conf").write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\nrequirepass {SENTINEL_PASSWORD}\n"
        f"sentinel monitor {MASTER} 127.0.0.1 {master} 1\n"
        f"sentinel auth-pass {MASTER} {_ADMIN}\n"
        f"sentinel down-after-milliseconds {MASTER} 1000\n"
        f"sentinel failover-timeout {MASTER} 5000\n"
        f"sentinel parallel-syncs {MASTER} 2\n",
        encoding="utf-8",
    )
    return Server([program(*REDIS), str(folder / "sentinel.conf"), "--sentinel"], folder / "log", port=port)
