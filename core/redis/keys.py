"""Every key and channel in Redis. No other module spells one, and Lua scripts get theirs from here.

| key | type | holds |
|---|---|---|
| `ws:job:{id}` | hash | a job's record; expires after the retention time, once settled |
| `ws:pending:{lane}` | sorted set | ids of jobs not settled, by time of acceptance (ms, never falling) |
| `ws:expiring` | sorted set | ids of jobs not settled that expire, by that time (ms) |
| `ws:withdrawn` | sorted set | ids of cancelled jobs whose messages are queued, by time of settling (ms) |
| `ws:service_rate` | hash | service rate (`core.redis.eta`); latest time in `ws:pending`; pauses |
| `ws:accepted` | stream | shards in the order in which their jobs were accepted (`core.redis.job_index`) |
| `ws:settled` | channel | ids of jobs that have just settled |
| `ws:feed` | stream | settled jobs, an entry for each call that settled some (`core.redis.feed`) |
| `ws:feed:start` | string | cursor after the last entry that was removed from the feed |
| `ws:streams` | hash | API process to the number of its event streams, and when (`core.redis.streams`) |
| `ws:sinks` | hash | sink to its cursor (`core.redis.sinks`) |
| `ws:sinks:errors` | hash | sink to the error that stops it |
| `ws:sinks:gaps` | hash | sink to its gaps: times that results expired before it read them |
| `ws:webhooks` | hash | id of a webhook to its record (JSON), which never changes (`core.redis.webhooks`) |
| `ws:webhooks:failing` | hash | id of a webhook to when its latest delivery first failed (ms) |
| `ws:webhooks:dead` | hash | id of a webhook to when it was given up (ms) |
| `ws:webhooks:replays` | hash | id of a webhook to the cursor of its replay; empty for its own cursor |
| `ws:ledger:{hour}:{camera}` | hash | counters of the jobs accepted in that hour (`core.hours`) |
| `ws:ledgers` | sorted set | names `{hour}:{camera}` of the rows above, by hour |
| `ws:totals:{camera}` | hash | the same counters over all hours |
| `ws:cameras` | sorted set | cameras, by the last hour in which they sent something |
| `ws:cameras:key` | hash | camera to the id of the API key that brought it |
| `ws:cameras:about` | hash | camera to what an operator says of it (`core.redis.camera_reports`) |
| `ws:cameras:report` | hash | camera to the latest report of its gateway (JSON) |
| `ws:sampled:{hour}:{camera}` | hash | a gateway's counts of frames captured in that hour; expires |
| `ws:sampled` | sorted set | names `{hour}:{camera}` of the rows above, by hour |
| `ws:keys:cameras` | hash | id of an API key to the number of known cameras that it brought |
| `ws:idempotency:{owner}:{key}` | string | digest and job ids of the upload that used the idempotency key |
| `ws:counted:{token}` | string | mark of a call that has counted its duplicates; expires after a minute |
| `ws:rate:{key}` | string | when the rate limit of an API key is whole again (ms, Redis' clock) |
| `ws:keys` | hash | id of an API key to its record (JSON); revoked ones stay, without their hash |
| `ws:keys:version` | string | a value that changes with every API key made or revoked |
| `ws:workers` | sorted set | names of workers, by the time of their latest heartbeat |
| `ws:worker:{name}` | hash | what a worker has done (`worker.stats`), and the time of its heartbeat |
| `ws:metrics` | hash | sums of what all processes have counted (`core.redis.metrics`) |
| `ws:metrics:{process}` | string | number of a process' latest report of them; expires after an hour |
| `ws:waiting` | hash | API process to the number of its waiting requests, and when (`core.redis.streams`) |
| `ws:leader:{role}` | string | name of the process that leads (`core.redis.leader`) |
| `ws:recovery` | hash | archived hour in the ledger to 1; `until` and `listed` (`core.redis.recovered`) |
| `ws:restoration` | string | digest of the backup that is being restored (`core.redis.restoration`) |
| `ws:restoration:{key}` | any | what that key will hold when the restoration is complete |
| `ws:restoration:costs` | hash | id of a job that will wait to the cost of decoding its image (ms) |
| `ws:installation` | string | id of the installation (`core.redis.installation`) |
| `ws:uploads:secret` | string | secret that authenticates the ids of direct uploads (hexadecimal) |
| `ws:ping` | string | nothing: written to see whether Redis can write; expires after a minute |
| `ws:rights` | none | never set: the key about which `core.redis.server` asks for its rights |
| `ws:nothing` | none | never set: the key that `core.redis.oom` deletes before a write |
| `wastestream.{lane}` | list | a lane's queue of Celery messages (`core.messages.QUEUES`) |
| `unacked` | hash | kombu: delivery tag to a message that a worker holds |
| `unacked_index` | sorted set | kombu: those delivery tags, by the time of their lease |
| `unacked_mutex` | string | kombu: lock of the process that returns abandoned messages |
| `_kombu.binding.{exchange}` | set | kombu: queues of an exchange |
| `_kombu.binding_deadlines` | sorted set | kombu: when temporary queues end |
| `{id}.reply.celery.pidbox` | list | Celery: answers to remote control |
| `/{db}.celery.pidbox` | channel | Celery: remote control |
"""

from __future__ import annotations

from typing import Final

from core.lanes import LANES

PREFIX: Final = "ws:"
"""Prefix of all keys of ours, except the queues'."""

PENDING: Final = {lane: f"{PREFIX}pending:{lane}" for lane in LANES}
EXPIRING: Final = PREFIX + "expiring"
WITHDRAWN: Final = PREFIX + "withdrawn"
SERVICE_RATE: Final = PREFIX + "service_rate"
ACCEPTED: Final = PREFIX + "accepted"
SETTLED: Final = PREFIX + "settled"
FEED: Final = PREFIX + "feed"
FEED_START: Final = FEED + ":start"
STREAMS: Final = PREFIX + "streams"
WAITING: Final = PREFIX + "waiting"
METRICS: Final = PREFIX + "metrics"

SINKS: Final = PREFIX + "sinks"
SINK_ERRORS: Final = SINKS + ":errors"
SINK_GAPS: Final = SINKS + ":gaps"

WEBHOOKS: Final = PREFIX + "webhooks"
WEBHOOKS_FAILING: Final = WEBHOOKS + ":failing"
WEBHOOKS_DEAD: Final = WEBHOOKS + ":dead"
WEBHOOK_REPLAYS: Final = WEBHOOKS + ":replays"

LEDGER: Final = PREFIX + "ledger:"
LEDGERS: Final = PREFIX + "ledgers"
TOTALS: Final = PREFIX + "totals:"
CAMERAS: Final = PREFIX + "cameras"
CAMERA_KEYS: Final = PREFIX + "cameras:key"
CAMERAS_ABOUT: Final = PREFIX + "cameras:about"
CAMERA_REPORTS: Final = PREFIX + "cameras:report"
SAMPLED_ROWS: Final = PREFIX + "sampled"
KEY_CAMERAS: Final = PREFIX + "keys:cameras"

API_KEYS: Final = PREFIX + "keys"
API_KEYS_VERSION: Final = PREFIX + "keys:version"

WORKERS: Final = PREFIX + "workers"
INSTALLATION: Final = PREFIX + "installation"
RECOVERY: Final = PREFIX + "recovery"
RESTORATION: Final = PREFIX + "restoration"
RESTORATION_COSTS: Final = RESTORATION + ":costs"
UPLOAD_SECRET: Final = PREFIX + "uploads:secret"
PING: Final = PREFIX + "ping"
RIGHTS: Final = PREFIX + "rights"
NOTHING: Final = PREFIX + "nothing"

UNACKED: Final = "unacked"
UNACKED_INDEX: Final = "unacked_index"
UNACKED_MUTEX: Final = "unacked_mutex"
BINDING: Final = "_kombu.binding"
BINDING_DEADLINES: Final = BINDING + "_deadlines"
CONTROL: Final = ".celery.pidbox"
"""Suffix of Celery's remote control: its channel, and the lists of answers."""

_JOB: Final = PREFIX + "job:"
_RATE: Final = PREFIX + "rate:"
_COUNTED: Final = PREFIX + "counted:"
_SAMPLED: Final = PREFIX + "sampled:"
_IDEMPOTENCY: Final = PREFIX + "idempotency:"
_WORKER: Final = PREFIX + "worker:"
_LEADER: Final = PREFIX + "leader:"

LUA: Final = {
    "JOB": _JOB,
    "LEDGER": LEDGER,
    "TOTALS": TOTALS,
    "SAMPLED": _SAMPLED,
    "RATE": _RATE,
    "COUNTED": _COUNTED,
    "CAMERA_KEYS": CAMERA_KEYS,
    "KEY_CAMERAS": KEY_CAMERAS,
    "INSTALLATION": INSTALLATION,
    "ACCEPTED": ACCEPTED,
    "SETTLED": SETTLED,
    "FEED": FEED,
}
"""Local variables of Lua scripts: keys, and prefixes of keys that the scripts complete."""


def job(job_id: str) -> str:
    """Return the key of a job's record."""
    return _JOB + job_id


def job_of(key: str) -> str | None:
    """Return the id of the job whose record has this key; None for another key."""
    return key.removeprefix(_JOB) if key.startswith(_JOB) else None


def is_idempotency(key: str) -> bool:
    """Return whether this is the key of an upload's idempotency key."""
    return key.startswith(_IDEMPOTENCY)


def is_counter(key: str) -> bool:
    """Return whether this is the key of a row of the ledger, or of a camera's totals."""
    return key.startswith((LEDGER, TOTALS))


def is_passing(key: str) -> bool:
    """Return whether this key is about a running process, the last minute, or a restoration."""
    return key.startswith((_RATE, _COUNTED, _WORKER, _LEADER, METRICS, RESTORATION))


def staged(key: str) -> str:
    """Return the key that holds the future content of a key until a restoration is complete."""
    return f"{RESTORATION}:{key}"


def idempotency(owner: str, key: str) -> str:
    """Return the key of an upload's idempotency key; `owner` is the id of the API key that sent it."""
    return f"{_IDEMPOTENCY}{owner}:{key}"


def sampled(row: str) -> str:
    """Return the key of a gateway's counts; `row` is `{hour}:{camera}`."""
    return _SAMPLED + row


def worker(name: str) -> str:
    """Return the key of a worker's report."""
    return _WORKER + name


def metrics_report(process: str) -> str:
    """Return the key of the number of a process' latest report of its metrics."""
    return f"{METRICS}:{process}"


def leader(role: str) -> str:
    """Return the key of a role's lock."""
    return _LEADER + role


def binding(exchange: str) -> str:
    """Return kombu's key of an exchange's queues."""
    return f"{BINDING}.{exchange}"


def control_channel(db: int | str) -> str:
    """Return the channel of Celery's remote control in a database of Redis."""
    return f"/{db}{CONTROL}"
