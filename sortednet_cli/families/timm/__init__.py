"""timm's networks, shrunk by the arguments of their constructors."""
