"""What is found out from the series of a run: its epochs and its speed."""
