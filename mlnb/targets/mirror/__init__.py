"""Runs without a shared file system: their directory is elsewhere, and a mirror of it is kept here."""
