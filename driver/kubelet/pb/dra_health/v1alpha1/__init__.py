"""Messages of the health stream, v1alpha1."""
