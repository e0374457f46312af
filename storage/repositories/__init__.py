"""Every SELECT, INSERT and UPDATE. Repositories never commit: the unit of work does."""
