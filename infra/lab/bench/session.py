"""A running stack under measurement."""

from __future__ import annotations

from dataclasses import dataclass

from infra.lab.bench.load import Address, Load, Window, measure
from infra.lab.bench.plan import Plan
from infra.lab.bench.stack import HOST, Stack
from infra.lab.bench.stages import StageClock, Stages
from infra.lab.bench.usage import snapshot


@dataclass(frozen=True)
class Round:
    """One kind of load, once: what was seen from outside, and what the workers say."""

    window: Window
    stages: Stages


class Session:
    """Runs loads on a stack and counts the images that it was given."""

    def __init__(self, stack: Stack, plan: Plan) -> None:
        self.stack = stack
        self.address = Address(HOST, stack.port)
        self._plan = plan
        self._images = 0

    def run(self, load: Load, seconds: float | None = None) -> Round:
        """Run a load on workers; return what it did, with theirs."""
        clock = StageClock(self.stack.jobs, self.stack.workers)
        window = self.window(load, seconds)
        return Round(window, clock.lap())

    def window(self, load: Load, seconds: float | None = None) -> Window:
        """Run a load; return what it did."""
        roles = self.stack.roles()
        window = measure(load, lambda: snapshot(roles), self._plan.warm_up, seconds or self._plan.seconds)
        self._images += window.accepted
        return window

    def check(self) -> None:
        """Return if every image was classified and counted once; raises as `Stack.check_books`."""
        self.stack.check_books(self._images)
