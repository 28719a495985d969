"""Network of the benchmark's own: a bridge, and behind it a network namespace for each worker.

The benchmark itself moves into a new namespace, with everything that it starts. So Redis and the S3 server
listen on an address that nothing else reaches, no address or name can collide with the machine's, and the
kernel removes all of it when the last process has ended, however that happened.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from infra.local.ports import LOOPBACK_HOST

MAX_PLACES: Final = 250
"""Addresses for namespaces in the network."""

_ADDRESS: Final = "10.0.0.1"  # of the bridge; those of the workers follow
_CLONE_NEWUSER: Final = 0x10000000  # linux/sched.h
_CLONE_NEWNET: Final = 0x40000000

_BRIDGE: Final = f"""
ip link set lo up
ip link add bridge type bridge
ip address add {_ADDRESS}/24 dev bridge
ip link set bridge up
"""

# Runs in a new namespace: connects it with the parent's, which has the bridge, and becomes the command. The
# kernel removes an ended namespace some time later, so the new one has another name (the process id) on the
# bridge, but the same Ethernet address, which neighbours may remember.
_JOIN: Final = """
ip link add eth0 address "02:00:00:00:00:$(printf %02x "$1")" type veth peer name "veth$$" netns "$PPID"
nsenter --net="/proc/$PPID/ns/net" ip link set "veth$$" master bridge up
ip address add "10.0.0.$((1 + $1))/24" dev eth0
ip link set lo up
ip link set eth0 up
shift
exec "$@"
"""


@dataclass(frozen=True, slots=True)
class Network:
    """Where servers listen, and how programs get a place in the network.

    `trouble` says why there are no namespaces; then everything runs on loopback. It is empty otherwise.
    """

    address: str
    trouble: str = ""

    @property
    def place_name(self) -> str:
        """Where programs are, for a person."""
        return "on loopback" if self.trouble else "in network namespaces"

    def place(self, number: int, command: Sequence[str]) -> list[str]:
        """Return the command that runs `command` in the namespace of this number, from 1."""
        return list(command) if self.trouble else _joined(number, command)


def enter_network() -> Network:
    """Move this process into a namespace with a bridge, if the machine allows it.

    Needs root, or a kernel that lets every user make user namespaces; then this process has one thread only.
    """
    is_root = os.geteuid() == 0
    trial = ["unshare", *([] if is_root else ["--map-root-user"]), "--net"]
    trial += ["sh", "-euc", f'{_BRIDGE}"$@"', "sh", *_joined(1, ["true"])]
    try:
        subprocess.run(trial, check=True, capture_output=True, text=True)  # noqa: S603
        _unshare(_CLONE_NEWNET | (0 if is_root else _CLONE_NEWUSER))
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"exit code {error.returncode}"]
        return Network(LOOPBACK_HOST, lines[-1].rstrip("."))
    except OSError as error:
        return Network(LOOPBACK_HOST, str(error))
    subprocess.run(["sh", "-euc", _BRIDGE], check=True)  # noqa: S603, S607 - as in the trial
    return Network(_ADDRESS)


def _joined(number: int, command: Sequence[str]) -> list[str]:
    return ["unshare", "--net", "sh", "-euc", _JOIN, "sh", str(number), *command]


def _unshare(flags: int) -> None:
    user, group = os.geteuid(), os.getegid()
    if ctypes.CDLL(None, use_errno=True).unshare(flags):  # os.unshare is new in Python 3.12.
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "unshare")
    if flags & _CLONE_NEWUSER:  # In there this user is root, and only there.
        for name, line in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            Path(f"/proc/self/{name}").write_text(line, encoding="ascii")
