"""The HTTP server: one set of weights, every size on request, batches of one size."""
