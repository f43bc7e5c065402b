"""Processes on one machine: identifying, preloading, queueing, signalling and guarding them."""
