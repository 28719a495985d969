"""`python -m infra.cli`, which `./wastestream` runs, and the `wastestream` of an installed package."""

from infra.cli.main import cli


def main() -> None:
    """Run the command line."""
    cli(prog_name="wastestream")


if __name__ == "__main__":
    main()
