"""Shipping: which of the session's values can be sent to a run, and how they are pickled."""
