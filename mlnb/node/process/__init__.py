"""Processes: starting, knowing, waiting for and ending them."""
