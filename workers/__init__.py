"""The machine room. Nothing is imported here, so that messages can be without torch or Celery."""
