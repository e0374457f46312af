"""The JSON API under ``/v1``, and the routes for health checks and metrics."""
