"""`wastestream-camera`, and `python -m wastestream.gateway`."""

from __future__ import annotations

import sys

from wastestream.gateway.errors import ConfigError


def main() -> None:
    """Run the command line; an error prints its sentences and exits with code 1, or 2 for wrong options."""
    try:
        from wastestream.gateway.cli import run  # noqa: PLC0415 - its packages may be missing
    except ModuleNotFoundError as error:
        sys.exit(
            f"wastestream-camera needs packages that are not installed here, such as {error.name}: "
            "pip install 'wastestream-client[gateway]'."
        )
    try:
        sys.exit(run(sys.argv[1:]))
    except ConfigError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
