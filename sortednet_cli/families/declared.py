"""The families of this package. No torch.

To add one, write its class and declare it here. To add an architecture of transformers, write a
module in `transformers/`.
"""

from __future__ import annotations

from collections.abc import Mapping

from sortednet_cli.families.transformers import ARCHITECTURES
from sortednet_cli.spec.families import STAGED_ORDERS, FamilyFacts

FAMILIES: Mapping[str, FamilyFacts] = {
    facts.name: facts
    for facts in (
        FamilyFacts(
            name="preact_resnet",
            implementation="sortednet_cli.families.preact_resnet:PreActResNetFamily",
        ),
        FamilyFacts(
            name="mobilenet_v2",
            implementation="sortednet_cli.families.torchvision.mobilenet_v2:MobileNetV2Family",
            depth_orders=STAGED_ORDERS,
        ),
        *(
            FamilyFacts(
                name=name,
                implementation="sortednet_cli.families.torchvision.resnet:ResNetFamily",
                depth_orders=STAGED_ORDERS,
            )
            for name in ("resnet50", "resnet101", "resnet152")
        ),
        FamilyFacts(
            name="timm",
            implementation="sortednet_cli.families.timm.family:TimmFamily",
            depth_orders=STAGED_ORDERS,
            norms_are_per_channel=False,
        ),
        *ARCHITECTURES,
        FamilyFacts(
            name="custom",
            implementation="sortednet_cli.families.custom:CustomFamily",
            axes=(),
        ),
    )
}
