"""Decisions: pure functions from values to values. Nothing here touches disk, network, clock or log."""
