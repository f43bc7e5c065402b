"""Shipping: which values can travel to a run, and how."""
