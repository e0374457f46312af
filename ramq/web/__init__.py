"""The HTTP API and the web page, which both use the same services."""
