"""The page: HTML for people, made of the same services as the API."""
