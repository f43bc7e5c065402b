"""The machine that a node program runs on: hardware, GPUs, and their use."""
