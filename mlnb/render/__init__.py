"""Texts and tables for notebook, command line and server. Needs neither IPython nor click."""
