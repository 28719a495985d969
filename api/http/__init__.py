"""How HTTP reaches the application: connections in an event loop, requests in threads."""
