"""Lines that the model cards of torchvision's networks share."""

from __future__ import annotations

LOAD = 'model.load_state_dict(load_file("model.safetensors"), strict=True)\nmodel.eval()\n'
IMPORTS = "import json\n\nfrom safetensors.torch import load_file\n"
