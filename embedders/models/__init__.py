"""The store of weights: where models come from, how they get in, what is verified."""
