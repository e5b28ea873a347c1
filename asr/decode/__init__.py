"""Scores to events: decoders, and what guides them."""
