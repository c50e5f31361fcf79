"""torchvision's image networks, shrunk by the arguments of their stock classes."""
