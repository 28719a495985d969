"""`python -m infra.cli`, which `./wastestream` runs."""

from infra.cli.main import cli

cli(prog_name="wastestream")
