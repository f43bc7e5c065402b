"""Names: what a piece of code reads, binds and changes."""
