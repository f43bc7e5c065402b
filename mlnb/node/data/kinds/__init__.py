"""How objects of each kind are sent: arrays, tensors, objects of torch, open files, functions and classes by value."""
