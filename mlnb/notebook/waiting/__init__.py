"""What a cell reads: names, objects by whatever holds them, and files."""
