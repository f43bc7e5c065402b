"""What can be set: options of a line, settings of a site, and where things are."""
