"""Messages of the Registration service."""
