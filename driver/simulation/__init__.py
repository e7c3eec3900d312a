"""A cluster in one process, for the demo, the tests and the benchmarks, and for nothing else."""
