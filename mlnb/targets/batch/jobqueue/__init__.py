"""Uses dask-jobqueue: its configuration, and its Job classes."""
