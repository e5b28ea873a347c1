"""Studies of trained models: search, calibrate, compare, explain, measure."""
