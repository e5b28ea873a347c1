"""Recordings and texts to batches."""
