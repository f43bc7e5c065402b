"""One rank: hooks into its training, metrics, signals, display and tracebacks."""
