"""GPUs: models, the kinds that a site has, and which of them fit what is asked for."""
