"""The HTTP server: connections in an event loop, requests in threads."""
