"""Many files: which there are, and processes that share them."""
