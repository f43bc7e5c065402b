"""GPU models, the kinds of GPUs that a site has, and the choice among them for a run."""
