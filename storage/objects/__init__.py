"""Objects: the pictures where they are, in S3 or in a folder. Never copied, never moved."""
