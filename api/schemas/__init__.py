"""The JSON documents of the API's answers."""
