"""Messages of the health stream (KEP-4680)."""
