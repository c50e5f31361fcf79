"""torchvision's image networks: the stock classes, cut through their own arguments."""
