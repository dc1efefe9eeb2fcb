"""A page on which a model is tried: an image in, its answer beside it."""
