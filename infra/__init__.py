"""Set-up and operation of the programs: the command line, the stack on one machine, deployments."""
