"""How fast a model or a training is, alone or beside its peers."""
