"""The cell itself: reads its source, and makes Python of its magics."""
