"""What runs over there: the node program and what the ranks need. Standard library and torch only."""
