"""HTTP for the application: bodies, problems, and the fields of requests and responses."""
