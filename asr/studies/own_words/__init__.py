"""A model of one's own words, from a folder of recordings or from the words alone."""
