"""Who may call what: scopes, API keys, and the page's session."""
