"""Tests of how a rank runs its program."""
