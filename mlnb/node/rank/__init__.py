"""One rank: running the script, watching its training, logging its metrics."""
