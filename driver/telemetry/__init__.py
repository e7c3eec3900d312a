"""Logs and metrics: hooks that turn occurrences (`driver.model.occurrences`) into lines and counters."""
