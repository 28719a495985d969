"""The whole system on one machine: Redis, an S3 server, the API and workers, under one supervisor."""
