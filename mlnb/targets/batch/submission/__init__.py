"""Submits the jobs of runs to a batch system, alone or as job arrays."""
