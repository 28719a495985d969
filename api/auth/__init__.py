"""Access control: scopes, API keys, same-site checks, and the page's session."""
