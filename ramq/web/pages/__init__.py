"""The page: screens for people, made of the same services as the API."""
