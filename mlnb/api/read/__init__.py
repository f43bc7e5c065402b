"""Reading runs: states, metrics, logs and what a view of a run is sent."""
