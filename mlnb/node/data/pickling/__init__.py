"""Pickling: how the session and the run take objects apart, and build them again."""
