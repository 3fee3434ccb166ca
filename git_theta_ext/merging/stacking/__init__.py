"""Stack layers of models to a new depth, without reading a tensor."""
