"""Sub-models cut out as standalone models, verified while they are written."""
