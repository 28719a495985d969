"""The services of the stack, in the order of their start, and how each is told what it needs."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import psutil

from core.settings import PREFIX
from infra.local import health, ports, probes
from infra.local.appendonly import mend
from infra.local.checkout import IN_CHECKOUT, REPOSITORY
from infra.local.credentials import Credentials, write_private
from infra.local.folder import DataFolder
from infra.local.programs import REDIS, find_program
from infra.local.rewrites import Rewrites
from infra.local.service import Service

_REDIS_SHARE = 4  # Redis gets this part of the machine's memory; rewriting its file can take as much again
_S3_SHARE = 16  # the S3 server collects its garbage more often when it has this part
_CORES_PER_S3_THREAD = 4
_S3_LEAST = 512 << 20  # bytes that it may have in any case

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
# Not everysec: while an fsync runs, Redis then answers before it has written, so a killed Redis would lose
# jobs that were accepted. One fsync covers all commands of an event-loop turn: measured on a virtual disk,
# a lone SET takes 0.5 ms instead of 0.14, and 16 clients together still get 4,400 SETs a second.
appendfsync always
# Each second a line with the time: where the file is damaged, it tells since when. A damaged end is `up`'s to
# cut off (infra/local/appendonly.py): Redis would tell nobody.
aof-timestamp-enabled yes
aof-load-truncated no
# Allowed by the supervisor while the disk has room (infra/local/rewrites.py).
auto-aof-rewrite-percentage 0
# Full, Redis refuses writes and says so, and the API answers 503. Without a bound the system would kill it.
maxmemory {maxmemory}
maxmemory-policy noeviction
"""


@dataclass(frozen=True)
class StackPlan:
    """What the person who starts the stack decides."""

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
    """Return the services in stages, and write their configuration into the data folder."""
    plan.folder.objects.mkdir(exist_ok=True)
    plan.folder.redis.mkdir(exist_ok=True)
    _configure_redis(plan, credentials)
    write_private(plan.folder.worker_env, _as_lines(_addresses(plan, credentials, ports.dial_from_elsewhere)))
    environment = _addresses(plan, credentials, ports.dial) | {
        f"{PREFIX}HOST": plan.host,
        f"{PREFIX}PORT": str(plan.port),
        f"{PREFIX}DISK": str(plan.folder.path),
    }
    redis_url = environment[f"{PREFIX}REDIS_URL"]
    stages = [
        [_redis(plan, redis_url), _s3(plan, credentials)],
        [] if _bucket_exists(plan, environment) else [_bucket(plan, environment)],
        [_api(plan, environment), *worker_services(plan.folder, plan.workers, "worker", environment)],
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
        ready=lambda: probes.redis_answers(url),
        start_seconds=600,  # It reads its whole file first, at some 100 MB a second.
        stop_rank=3,
        stop_seconds=20,
    )


def _s3(plan: StackPlan, credentials: Credentials) -> Service:
    command = [find_program("rclone"), "serve", "s3", str(plan.folder.objects)]
    # Writes go straight to the file, so what was answered is there when rclone is killed. With a write cache
    # (--vfs-cache-mode writes) all of it was lost. Modification times and MD5 tags, which nothing here reads,
    # would cost a fifth of the time of a put and a third of a get's. Read buffers double its memory. Listings
    # are kept for long, since nobody else writes here: to list 24,000 files again holds an upload up for 1 s.
    # Sums over bytes that were just received or read, compared with nothing, took a third of a put's time and
    # two thirds of a get's; normalising names, of which ours need none, looks at every file of the folder.
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
            # A list in CSV, so a pair with a comma in it is quoted.
            "RCLONE_AUTH_KEY": f'"{credentials.s3_access_key},{credentials.s3_secret_key}"',
            # Collect garbage less often, a fifth less time a call; but oftener near the limit: after 440,000
            # images it held up to 2.1 GB, of which it needed 0.45.
            "GOGC": "400",
            # Its threads look for work at each other's, a fifth of a put's time. An image costs it a sixth of
            # what it costs a worker.
            "GOMAXPROCS": str(max(1, (psutil.cpu_count() or 1) // _CORES_PER_S3_THREAD)),
            "GOMEMLIMIT": str(max(_S3_LEAST, psutil.virtual_memory().total // _S3_SHARE)),
            "RCLONE_CONFIG": str(plan.folder.path / "no-rclone.conf"),  # The person's own has no say here.
        },
        ready=lambda: health.listens(ports.dial(plan.listen), plan.s3_port),
        stop_rank=2,
    )


def _bucket(plan: StackPlan, environment: Mapping[str, str]) -> Service:
    return Service(
        name="bucket",
        command=[*_PYTHON, "core.storage"],
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
        ready=lambda: health.api_ready(ports.dial(plan.host), plan.port),
        stop_rank=0,
        stop_seconds=35,  # gunicorn gives requests 30.
    )


def _worker(folder: DataFolder, name: str, environment: Mapping[str, str]) -> Service:
    sign = probes.Worker(environment[f"{PREFIX}REDIS_URL"], name)
    return Service(
        name=name,
        command=[*_PYTHON, "worker", "--name", name],
        folder=REPOSITORY,
        log=folder.logs / f"{name}.log",
        environment=environment,
        ready=sign.seen,
        alive=sign.alive,
        before_start=sign.forget,
        stop_rank=1,
        stop_seconds=30,  # The batch it has begun.
        # Its Redis ends with the supervisor, so it could give nothing back; Redis delivers its jobs again.
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
    """Return whether an earlier start has made the bucket; asking the server costs half a second."""
    return (plan.folder.objects / environment[f"{PREFIX}S3_BUCKET"]).is_dir()


def _addresses(plan: StackPlan, credentials: Credentials, dial: Callable[[str], str]) -> dict[str, str]:
    host = ports.in_url(dial(plan.listen))
    return {
        f"{PREFIX}REDIS_URL": f"redis://:{credentials.redis_password}@{host}:{plan.redis_port}/0",
        f"{PREFIX}S3_ENDPOINT": f"http://{host}:{plan.s3_port}",
        f"{PREFIX}S3_ACCESS_KEY": credentials.s3_access_key,
        f"{PREFIX}S3_SECRET_KEY": credentials.s3_secret_key,
        f"{PREFIX}S3_BUCKET": "wastestream",
        f"{PREFIX}S3_REGION": "us-east-1",
    }


def _as_lines(variables: Mapping[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in variables.items())
