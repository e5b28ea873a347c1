"""Language models: read from a file, and fused into the beam search."""
