"""Files of a plain loop on several ranks: rank 0 changes them, the others wait for it."""
