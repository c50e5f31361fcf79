"""Images: where they come from, how they are split, decoded, augmented and served."""

from sortednet_cli.data.format import ImageFormat
from sortednet_cli.data.images import Images, Part, open_images

__all__ = ["ImageFormat", "Images", "Part", "open_images"]
