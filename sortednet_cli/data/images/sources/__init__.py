"""Sources of images, one file each. No torch until one is read."""
