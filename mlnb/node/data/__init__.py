"""Data: how objects, tensors and outputs are written and loaded."""
