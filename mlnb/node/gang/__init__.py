"""Gangs: the node programs of one run over several nodes, and how they reach each other."""
