"""`wastestream resume`: resumes a paused lane of the stack on this machine, or of another Redis."""

from __future__ import annotations

from api import lanes
from infra.cli.target import target_command

resume = target_command(lanes.LaneControl.of, lanes.resume)
