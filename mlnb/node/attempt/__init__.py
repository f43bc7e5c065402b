"""One attempt on one node: which process it is, when it has to end, what happened, how it ended."""
