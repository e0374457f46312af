"""The web page: HTML from the same services as the API."""
