"""Options of runs, and a site's settings of targets."""
