"""Names: what code reads, assigns and changes, found out from its syntax."""
