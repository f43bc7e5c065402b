"""Mirrors: local copies of the run directories of targets without a shared file system."""
