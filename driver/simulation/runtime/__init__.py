"""A container runtime as far as CDI goes: what a container would see if it were started. No process is ever run."""
