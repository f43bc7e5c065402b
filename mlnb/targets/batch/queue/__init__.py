"""The user's jobs in a batch system: lists of the queue, states and ends of runs, cancelling, waiting times."""
