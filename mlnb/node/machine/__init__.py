"""The machine that a node program runs on: its hardware, its GPUs, what is used of them."""
