"""Which random numbers all ranks of one training draw alike, and which each draws for itself."""
