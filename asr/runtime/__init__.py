"""Running the graph of a model: sessions, and the ways to feed audio to them."""
