"""One attempt of a run on one node: its lock, environment, deadline, events and outcome."""
