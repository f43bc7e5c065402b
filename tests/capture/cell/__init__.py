"""Tests of reading a cell."""
