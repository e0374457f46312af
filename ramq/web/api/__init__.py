"""The JSON API under ``/v1``, and what machines ask of a service: health and metrics."""
