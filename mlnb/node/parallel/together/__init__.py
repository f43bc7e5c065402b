"""Keeps the ranks of a plain loop together, or finds out where they go apart."""
