"""`wastestream pause`: pauses a lane of the stack on this machine, or of another Redis."""

from __future__ import annotations

from api import lanes
from infra.cli.target import target_command

pause = target_command(lanes.LaneControl.of, lanes.pause)
