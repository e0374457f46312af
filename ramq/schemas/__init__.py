"""What the HTTP API sends, as types: the server writes them, ``ramq.client`` reads them."""
