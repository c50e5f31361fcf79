"""What sub-models are cut out of: runs, artifacts and stock checkpoints, opened."""
