"""A small scheduler for pods with claims: first fit with backtracking, in upstream's order. For demo and tests only."""
