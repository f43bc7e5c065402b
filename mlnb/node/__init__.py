"""What runs on the nodes of a run: the node program and its ranks. Uses the standard library and torch only."""
