"""Small things that every layer may use: errors and logs."""
