"""The networks: stem, encoders and their cells, heads."""
