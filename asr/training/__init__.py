"""Training: everything that needs torch lives here and in `export`."""
