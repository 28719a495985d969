"""The HTTP API and the page: stores images, enqueues their jobs, returns results."""
