"""Loads a run's outputs, and binds them in the session."""
