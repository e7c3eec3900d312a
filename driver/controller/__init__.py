"""The allocation process: watches the cluster, allocates claims that ask for it, and explains the others."""
