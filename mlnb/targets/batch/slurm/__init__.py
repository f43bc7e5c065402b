"""The SLURM batch system."""
