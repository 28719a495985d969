"""`wastestream bench`: how fast the pipeline is on this machine, and what an image costs."""
