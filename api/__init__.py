"""The HTTP API and the page: takes images, stores them, enqueues their jobs, answers with results."""
