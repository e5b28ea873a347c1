"""How good a model is: errors on held-out recordings, with intervals."""
