"""Messages of the health stream, v1."""
