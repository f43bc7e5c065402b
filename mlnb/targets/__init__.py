"""Targets, on which runs are executed: a file or folder for each kind. :mod:`mlnb.targets.base` is their interface."""
