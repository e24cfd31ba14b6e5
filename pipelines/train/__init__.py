"""Training on a curated table, with a selection of samples at every step."""
