"""Training: from a request to the optimizer's step, and what is saved of it."""
