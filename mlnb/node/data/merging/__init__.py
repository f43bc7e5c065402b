"""Puts objects that another process has written into those of this process that they are."""
