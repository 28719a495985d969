"""What sets the programs up and runs them: the command line, the stack on one machine, deployments."""
