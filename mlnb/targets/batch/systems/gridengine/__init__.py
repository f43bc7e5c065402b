"""The Grid Engine batch system."""
