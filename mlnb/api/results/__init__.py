"""Results: a run's outputs, loaded and bound in the session."""
