"""How the node programs of one run over several nodes find each other, and what they tell each other."""
