"""N-gram language models from texts: counted, smoothed, mixed and pruned."""
