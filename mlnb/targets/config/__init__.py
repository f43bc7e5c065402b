"""Configuration: where things are, and what a site has set for its targets."""
