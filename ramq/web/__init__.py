"""The HTTP API and the page: two surfaces over the same services."""
