"""The batch systems that mlnb supports: a file or a folder for each."""
