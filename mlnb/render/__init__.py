"""What the notebook and the command line both print. Needs neither IPython nor click."""
