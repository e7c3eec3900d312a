"""What the controller does next, decided from frozen values: which claims to allocate where, and what to take back."""
