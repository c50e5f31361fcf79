"""The first spec of a model and data: what they are, what can be cut, and how to train it."""
