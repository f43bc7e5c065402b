"""Checkpoints: when they are made, what they contain, and how a run resumes from one."""
