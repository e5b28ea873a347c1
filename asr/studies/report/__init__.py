"""One HTML page about a model: what it gets right, for whom and in what noise, and its errors."""
