"""Read images with Pillow: upright, opaque, 8 bits per channel, with warnings as remarks.

All formats of Pillow are read, except those for which it runs another program (EPS) or reads only
the header.
"""

from __future__ import annotations

import io
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError

from sortednet_cli.data.images.remarks import Remark, Remarks
from sortednet_cli.errors import RequestError, reason_of

# Checked in the header, before decoding: 64 million pixels are 200 MB of RGB.
MAX_PIXELS = 64_000_000
_NOT_READ = frozenset(("EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"))
# Further frames of these formats are not other pictures: previews, gain maps, layers, sizes.
_ONE_PICTURE = frozenset(("MPO", "PSD", "ICO", "ICNS"))
_DEEP_MODES = frozenset(("I", "F", "I;16", "I;16L", "I;16B", "I;16N"))
# Arguments of Pillow's decoders for more than 8 bits: `RGB;16B` of a PNG, half floats of a DDS.
# (`BGR;16` has 5 or 6 bits per channel.)
_DEEP_DECODERS = re.compile(r"SGI16|;16[BLN]|;32|BC6H")


@cache
def formats() -> tuple[str, ...]:
    """Names of the formats that are read; those that accept any file come last."""
    Image.preinit()
    Image.init()
    return tuple(
        sorted((name for name in Image.ID if name not in _NOT_READ), key=_accepts_anything)
    )


def _accepts_anything(name: str) -> bool:
    _, accepts = Image.OPEN[name]
    return accepts is None


@cache
def suffixes() -> frozenset[str]:
    """Suffixes of the formats that are read, in lower case, with the dot."""
    read = {*formats(), "MPO"}  # the reader of JPEG opens MPO
    return frozenset(s for s, name in Image.registered_extensions().items() if name in read)


def open_image(data: bytes, name: str, channels: int, remarks: Remarks) -> Any:
    """Decode a file to a PIL image in mode L (1 channel) or RGB (3), as viewers show it.

    The image is rotated by its EXIF orientation, transparent pixels are blended over white, and
    the first of several frames is used. `remarks` receives what the user should know.

    Raises:
        RequestError: the file cannot be read, is too large or has more than 8 bits per channel;
            the message names it.
    """
    try:
        with (
            _catching_warnings(name, remarks),
            Image.open(io.BytesIO(data), formats=formats()) as image,
        ):
            _check(image, data, name)
            if image.format not in _ONE_PICTURE and getattr(image, "is_animated", False):
                remarks.append((Remark.FRAMES, name))
            image.load()
            _turn_upright(image, name, remarks)
            return _opaque(image, name, remarks).convert("L" if channels == 1 else "RGB")
    except (RequestError, MemoryError):
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise _too_large(name) from error
    except UnidentifiedImageError as error:
        reason = "Pillow does not know its format" if data else "it is empty"
        raise RequestError(f"{name} is not a readable image: {reason}") from error
    except Exception as error:  # Pillow's readers raise whatever damaged bytes lead them to
        reason = reason_of(error)
        raise RequestError(f"{name} is not a readable image: {reason}") from error


def _check(image: Any, data: bytes, name: str) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise _too_large(name)
    if _is_deep(image, data):
        raise RequestError(
            f"{name} has more than 8 bits per channel, which would be lost: convert it first"
        )


def _is_deep(image: Any, data: bytes) -> bool:
    """Whether Pillow would reduce the values of an open image to 8 bits."""
    if image.mode in _DEEP_MODES:
        return True
    if image.format == "AVIF":  # a bit in the third byte after the name of a configuration
        return any(data[at.end() + 2] & 0x40 for at in re.finditer(b"av1C", data[:-3]))
    if image.format == "JPEG2000":  # bits - 1 of the first channel, in the codestream's header
        start = data.find(b"\xff\x4f\xff\x51")
        return (data[start + 42] & 0x7F) > 7
    for codec, _, _, arguments in image.tile:
        if _DEEP_DECODERS.search(f"{codec} {arguments}"):
            return True
        if codec in ("ppm", "ppm_plain") and arguments[-1] not in range(256):
            return True
    return False


def _turn_upright(image: Any, name: str, remarks: Remarks) -> None:
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except MemoryError:
        raise
    except Exception:  # only the metadata is damaged
        remarks.append((Remark.METADATA, name))


def _opaque(image: Any, name: str, remarks: Remarks) -> Any:
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    if image.getchannel("A").getextrema()[0] == 255:
        return image
    remarks.append((Remark.TRANSPARENT, name))
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def _too_large(name: str) -> RequestError:
    return RequestError(f"{name} has more than {MAX_PIXELS // 1_000_000} million pixels")


class _WarningCatcher:
    """Turns Pillow's warnings into remarks; all but the one of too many pixels concern metadata.

    `catch_warnings` affects the whole process, so the first of several reading threads enters it
    and the last one leaves it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._catching = ExitStack()
        self._num_readers = 0
        self._of_thread = threading.local()

    @contextmanager
    def __call__(self, name: str, remarks: Remarks) -> Iterator[None]:
        """Add a remark on the image `name` if Pillow warns in this thread."""
        self._enter()
        self._of_thread.warned = False
        try:
            yield
            if self._of_thread.warned:
                remarks.append((Remark.METADATA, name))
        finally:
            del self._of_thread.warned
            self._leave()

    def _enter(self) -> None:
        with self._lock:
            self._num_readers += 1
            if self._num_readers > 1:
                return
            self._catching.enter_context(warnings.catch_warnings())
            warnings.simplefilter("always")
            warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
            self._show = warnings.showwarning
            warnings.showwarning = self._record

    def _leave(self) -> None:
        with self._lock:
            self._num_readers -= 1
            if not self._num_readers:
                self._catching.close()

    def _record(self, *warning: Any, **location: Any) -> None:
        if hasattr(self._of_thread, "warned"):
            self._of_thread.warned = True
        else:
            self._show(*warning, **location)


_catching_warnings = _WarningCatcher()
