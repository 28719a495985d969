"""`wastestream bench`: throughput, latency and cost of the pipeline on this machine."""
