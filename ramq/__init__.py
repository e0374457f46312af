"""ramq: an asynchronous worker queue that makes large image archives searchable."""
