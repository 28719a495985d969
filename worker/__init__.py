"""The Celery worker: gathers jobs into batches and classifies them."""
