"""The view of a run under its cell, as the kernel writes it."""
