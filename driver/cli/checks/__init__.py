"""What `accel-dra doctor` looks at: the machine's hardware and folders, and the cluster behind the API server."""
