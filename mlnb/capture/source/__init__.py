"""Source: where definitions of the session are written, and how they are written into a script."""
