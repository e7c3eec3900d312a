"""The API server's side: the client, list and watch, slices, claims, events."""
