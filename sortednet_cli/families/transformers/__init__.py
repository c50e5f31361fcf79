"""Stock classes of transformers, cut through their own configurations."""
