"""Real batch systems on one machine, for tests and for people."""
