"""Runs on targets without a shared file system: a mirror of their remote run directory is kept locally."""
