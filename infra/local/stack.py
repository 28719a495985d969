"""The services of the stack, in the order of their start, and their configuration."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import psutil

from core.settings import PREFIX, load_settings
from infra.local import http_probes, ports, redis_probes
from infra.local.appendonly import mend
from infra.local.checkout import IN_CHECKOUT, REPOSITORY
from infra.local.credentials import Credentials, write_private
from infra.local.folder import DataFolder
from infra.local.programs import REDIS, find_program
from infra.local.rewrites import Rewrites
from infra.local.service import Service

_REDIS_SHARE = 4  # Redis' part of the machine's memory; a rewrite of its file can double it
_S3_SHARE = 16  # part of the memory above which the S3 server collects garbage more often
_CORES_PER_S3_THREAD = 4
_S3_MIN = 512 << 20  # bytes, at least

_PYTHON = [sys.executable, "-m"] if IN_CHECKOUT else [sys.executable, "-P", "-m"]
"""Runs a module. Processes start in the folder of the code; where that is site-packages, it must not come
before the standard library on the path."""

_REDIS_CONF = """\
bind {listen}
port {port}
requirepass {password}
dir ./
daemonize no
save ""
appendonly yes
# Not everysec: during an fsync Redis would then answer before it has written, so a killed Redis would lose
# accepted jobs. One fsync covers all commands of an event-loop turn: measured on a virtual disk, a lone SET
# takes 0.5 ms instead of 0.14, and 16 clients together still get 4,400 SETs a second.
appendfsync always
# A time stamp every second dates the damage of a file. `up` cuts off a damaged end
# (infra/local/appendonly.py): Redis would report it nowhere.
aof-timestamp-enabled yes
aof-load-truncated no
# The supervisor allows rewrites while the disk has space (infra/local/rewrites.py).
auto-aof-rewrite-percentage 0
# A full Redis rejects writes, and the API answers 503. Without a limit the system would kill Redis.
maxmemory {maxmemory}
maxmemory-policy noeviction
"""


@dataclass(frozen=True)
class StackPlan:
    """Options of the person who starts the stack."""

    folder: DataFolder
    port: int
    workers: int
    host: str
    listen: str

    @property
    def url(self) -> str:
        """The API's address, as this machine reaches it."""
        return f"http://{ports.in_url(ports.dial(self.host))}:{self.port}"

    @property
    def redis_port(self) -> int:
        """The port that Redis listens on."""
        return self.port + 1

    @property
    def s3_port(self) -> int:
        """The port that the S3 server listens on."""
        return self.port + 2

    def check_ports(self) -> None:
        """Return if all three ports are free; raises as `ports.check_free`."""
        ports.check_free(self.host, self.port, "the API")
        ports.check_free(self.listen, self.redis_port, "Redis")
        ports.check_free(self.listen, self.s3_port, "the S3 server")


def make_stack(plan: StackPlan, credentials: Credentials) -> list[list[Service]]:
    """Write the services' configuration into the data folder; return the services in stages."""
    plan.folder.objects.mkdir(exist_ok=True)
    plan.folder.redis.mkdir(exist_ok=True)
    _configure_redis(plan, credentials)
    elsewhere = _addresses(plan, credentials, ports.dial_from_elsewhere) | _retention()
    write_private(plan.folder.worker_env, _as_lines(elsewhere))
    environment = _addresses(plan, credentials, ports.dial) | {
        f"{PREFIX}HOST": plan.host,
        f"{PREFIX}PORT": str(plan.port),
        f"{PREFIX}DISK": str(plan.folder.path),
    }
    redis_url = environment[f"{PREFIX}REDIS_URL"]
    stages = [
        [_redis(plan, redis_url), _s3(plan, credentials)],
        [] if _bucket_exists(plan, environment) else [_bucket(plan, environment)],
        [
            _api(plan, environment),
            _sinks(plan, environment),
            *worker_services(plan.folder, plan.workers, "worker", environment),
        ],
    ]
    return [stage for stage in stages if stage]


def worker_services(
    folder: DataFolder, count: int, prefix: str, environment: Mapping[str, str]
) -> list[Service]:
    """Return `count` workers that use the Redis and the S3 server named in `environment`."""
    return [_worker(folder, f"{prefix}-{number}", environment) for number in range(1, count + 1)]


def _redis(plan: StackPlan, url: str) -> Service:
    server = find_program(*REDIS)
    rewrites = Rewrites(url, plan.folder)

    def begin() -> None:
        rewrites.begin()
        plan.folder.check_writable()  # On a full disk Redis would end at its first write.

    return Service(
        name="redis",
        command=[server, "redis.conf"],
        folder=plan.folder.redis,
        before_start=begin,
        tend=rewrites.look,
        mend=lambda: mend(plan.folder.redis, server),
        log=plan.folder.logs / "redis.log",
        ready=lambda: redis_probes.redis_answers(url),
        start_seconds=600,  # Redis loads its whole file first, at about 100 MB/s.
        stop_rank=3,
        stop_seconds=20,
    )


def _s3(plan: StackPlan, credentials: Credentials) -> Service:
    command = [find_program("rclone"), "serve", "s3", str(plan.folder.objects)]
    # Writes go straight to the file, so an answered put survives a kill of rclone. A write cache
    # (--vfs-cache-mode writes) lost it. Modification times and MD5 tags, which nothing here reads, would cost
    # a fifth of the time of a put and a third of a get's. Read buffers double rclone's memory. Listings are
    # cached for long, since no other program writes here: a listing of 24,000 files delays an upload by 1 s.
    # Checksums without a counterpart took a third of a put's time and two thirds of a get's. Normalising
    # names, which ours do not need, reads the whole folder.
    command += ["--addr", f"{ports.in_url(plan.listen)}:{plan.s3_port}"]
    command += ["--vfs-cache-mode", "off", "--no-modtime", "--etag-hash", "", "--metadata-max-objects", "1"]
    command += ["--buffer-size", "0", "--dir-cache-time", "24h", "--log-level", "NOTICE"]
    command += ["--ignore-checksum", "--no-checksum", "--no-unicode-normalization"]
    return Service(
        name="s3",
        command=command,
        folder=plan.folder.path,
        log=plan.folder.logs / "s3.log",
        environment={
            # A CSV list, so the pair with its comma is quoted.
            "RCLONE_AUTH_KEY": f'"{credentials.s3_access_key},{credentials.s3_secret_key}"',
            # Collect garbage less often, which saves a fifth of a call's time; but more often near the limit:
            # after 440,000 images rclone held up to 2.1 GB and needed 0.45.
            "GOGC": "400",
            # Idle threads that search for work take a fifth of a put's time. An image costs rclone a sixth of
            # its cost in a worker.
            "GOMAXPROCS": str(max(1, (psutil.cpu_count() or 1) // _CORES_PER_S3_THREAD)),
            "GOMEMLIMIT": str(max(_S3_MIN, psutil.virtual_memory().total // _S3_SHARE)),
            "RCLONE_CONFIG": str(
                plan.folder.path / "no-rclone.conf"
            ),  # The person's own file does not apply.
        },
        ready=lambda: http_probes.listens(ports.dial(plan.listen), plan.s3_port),
        stop_rank=2,
    )


def _bucket(plan: StackPlan, environment: Mapping[str, str]) -> Service:
    return Service(
        name="bucket",
        command=[*_PYTHON, "core.bucket"],
        folder=REPOSITORY,
        log=plan.folder.logs / "bucket.log",
        environment=environment,
        once=True,
    )


def _api(plan: StackPlan, environment: Mapping[str, str]) -> Service:
    return Service(
        name="api",
        command=[*_PYTHON, "api"],
        folder=REPOSITORY,
        log=plan.folder.logs / "api.log",
        environment=environment,
        ready=lambda: http_probes.api_ready(ports.dial(plan.host), plan.port),
        stop_rank=0,
        stop_seconds=35,  # The API ends within 30: `graceful_timeout` in api/__main__.py, and its own end.
    )


def _sinks(plan: StackPlan, environment: Mapping[str, str]) -> Service:
    return Service(
        name="sinks",
        command=[*_PYTHON, "worker.sinks"],
        folder=REPOSITORY,
        log=plan.folder.logs / "sinks.log",
        environment=environment,
        stop_rank=1,
        stop_seconds=20,  # The deliveries in progress.
    )


def _worker(folder: DataFolder, name: str, environment: Mapping[str, str]) -> Service:
    probe = redis_probes.WorkerProbe(environment[f"{PREFIX}REDIS_URL"], name)
    return Service(
        name=name,
        command=[*_PYTHON, "worker", "--name", name],
        folder=REPOSITORY,
        log=folder.logs / f"{name}.log",
        environment=environment,
        ready=probe.seen,
        alive=probe.alive,
        before_start=probe.forget,
        stop_rank=1,
        stop_seconds=30,  # The batch in progress.
        # Its Redis ends with the supervisor, so it could not give jobs back; they are redelivered.
        orphan_signal=signal.SIGKILL,
    )


def _configure_redis(plan: StackPlan, credentials: Credentials) -> None:
    text = _REDIS_CONF.format(
        listen=plan.listen,
        port=plan.redis_port,
        password=credentials.redis_password,
        maxmemory=psutil.virtual_memory().total // _REDIS_SHARE,
    )
    write_private(plan.folder.redis / "redis.conf", text)


def _bucket_exists(plan: StackPlan, environment: Mapping[str, str]) -> bool:
    """Return whether an earlier start has created the bucket; asking the server costs half a second."""
    return (plan.folder.objects / environment[f"{PREFIX}S3_BUCKET"]).is_dir()


def _addresses(plan: StackPlan, credentials: Credentials, dial: Callable[[str], str]) -> dict[str, str]:
    host = ports.in_url(dial(plan.listen))
    return {
        f"{PREFIX}REDIS_URL": f"redis://:{credentials.redis_password}@{host}:{plan.redis_port}/0",
        # Not those of another installation, which the shell may have.
        f"{PREFIX}REDIS_SENTINELS": "",
        f"{PREFIX}REDIS_SENTINEL_PASSWORD": "",
        f"{PREFIX}REDIS_REPLICAS": "0",
        f"{PREFIX}S3_CREDENTIALS": "keys",
        f"{PREFIX}S3_ADDRESSING": "path",
        f"{PREFIX}S3_PREFIX": "",
        f"{PREFIX}S3_ENDPOINT": f"http://{host}:{plan.s3_port}",
        f"{PREFIX}S3_ACCESS_KEY": credentials.s3_access_key,
        f"{PREFIX}S3_SECRET_KEY": credentials.s3_secret_key,
        f"{PREFIX}S3_BUCKET": "wastestream",
        f"{PREFIX}S3_REGION": "us-east-1",
    }


def _retention() -> dict[str, str]:
    """Return the retention for workers elsewhere: each worker cuts the feed, and removes what is too old."""
    settings = load_settings()
    return {
        f"{PREFIX}{name.upper()}": str(getattr(settings, name))
        for name in ("retention_hours", "image_retention_hours", "ledger_retention_days")
    }


def _as_lines(variables: Mapping[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in variables.items())
