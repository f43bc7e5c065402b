"""How a rank runs ``script.py``: as Python runs a script or a module, or as a notebook runs a cell."""
