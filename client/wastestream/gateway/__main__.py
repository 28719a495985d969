"""`wastestream-camera`, and `python -m wastestream.gateway`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    try:
        from wastestream.gateway.cli import camera  # noqa: PLC0415 - its packages may be missing
    except ModuleNotFoundError as error:
        sys.exit(
            f"wastestream-camera needs packages that are not installed here, such as {error.name}: "
            "pip install 'wastestream-client[gateway]'."
        )
    camera(prog_name="wastestream-camera")


if __name__ == "__main__":
    main()
