"""Data parallel training of a plain loop: sharded batches, averaged gradients."""
