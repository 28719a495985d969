"""One blueprint for each noun of the API."""
