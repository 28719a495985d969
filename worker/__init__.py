"""The Celery worker: collects jobs into batches and classifies them."""
