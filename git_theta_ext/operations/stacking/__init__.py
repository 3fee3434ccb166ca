"""Make a model of the layers of other versions."""
