"""The gradients of a plain loop: those of the whole batch."""
