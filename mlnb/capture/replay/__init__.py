"""Replay: the session's statements that changed libraries run again before the cell, in their order."""
