"""Sources of texts, one file each. No torch until one is read."""
