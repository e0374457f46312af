"""The types of the HTTP API's requests and responses. The server writes them, and ``ramq.client`` reads them."""
