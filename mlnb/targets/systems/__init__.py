"""Batch systems: what mlnb needs of each beyond dask-jobqueue's Job class, one file a system."""
