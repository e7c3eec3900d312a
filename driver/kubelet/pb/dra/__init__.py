"""Messages of the DRA service."""
