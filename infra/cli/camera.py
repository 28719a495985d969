"""`wastestream camera`: the gateway, which the client's package brings."""

from wastestream.gateway.cli import camera

__all__ = ["camera"]
