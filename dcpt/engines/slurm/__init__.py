"""The Slurm engine: planned runs are packed into jobs, and each job trains its runs on a node."""
