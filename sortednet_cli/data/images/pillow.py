"""What Pillow makes of a file: upright, opaque, of 8 bits a channel, and never a word on its own.

Which formats there are is Pillow's to say. Left out are those for which it calls another
program (EPS) or knows the header alone.
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

# Of a file's header, before anything is decoded: 64 million pixels are 200 MB of RGB.
MAX_PIXELS = 64_000_000
_NOT_READ = frozenset(("EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"))
# Their further frames are not other pictures: previews and gain maps, layers, smaller sizes.
_ONE_PICTURE = frozenset(("MPO", "PSD", "ICO", "ICNS"))
_DEEP_MODES = frozenset(("I", "F", "I;16", "I;16L", "I;16B", "I;16N"))
# What Pillow's decoders are told of more than 8 bits: `RGB;16B` of a PNG, half floats of a DDS.
# (`BGR;16` has 5 or 6 bits a channel.)
_DEEP_DECODERS = re.compile(r"SGI16|;16[BLN]|;32|BC6H")


@cache
def formats() -> tuple[str, ...]:
    """Names of the formats that are read; those that would try any file come last."""
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
    """Suffixes of the formats that are read, in lower case and with their dot."""
    read = {*formats(), "MPO"}  # which the reader of JPEG opens
    return frozenset(s for s, name in Image.registered_extensions().items() if name in read)


def open_image(data: bytes, name: str, channels: int, remarks: Remarks) -> Any:
    """Decode a file into a PIL image in mode L (1 channel) or RGB (3), as viewers show it.

    It is turned upright by its EXIF mark, transparent pixels are laid over white, and of several
    frames the first is taken; `remarks` gets what deserves a word. Raises RequestError, naming
    the file, for one that cannot be read, is too large or has more than 8 bits a channel.
    """
    try:
        with _heard(name, remarks), Image.open(io.BytesIO(data), formats=formats()) as image:
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
        reason = "it is of no format that Pillow reads" if data else "it is empty"
        raise RequestError(f"{name} is not an image that can be read: {reason}") from error
    except Exception as error:  # Pillow's readers raise whatever damaged bytes lead them to
        reason = reason_of(error)
        raise RequestError(f"{name} is not an image that can be read: {reason}") from error


def _check(image: Any, data: bytes, name: str) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise _too_large(name)
    if _is_deep(image, data):
        raise RequestError(
            f"{name} has more than 8 bits a channel, which would be cut off: convert it first"
        )


def _is_deep(image: Any, data: bytes) -> bool:
    """Say whether Pillow would cut an opened image's values to 8 bits."""
    if image.mode in _DEEP_MODES:
        return True
    if image.format == "AVIF":  # a bit of each item's configuration, 3 bytes after its name
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
    except Exception:  # of the metadata alone: the pixels are there
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


class _Hearing:
    """Turns Pillow's warnings into remarks; all but that of too many pixels are on metadata.

    `catch_warnings` is of the whole process: the first of several reading threads sets it, the
    last one takes it back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._catching = ExitStack()
        self._num_readers = 0
        self._of_thread = threading.local()

    @contextmanager
    def __call__(self, name: str, remarks: Remarks) -> Iterator[None]:
        """Add a remark on the image `name` if this thread is warned."""
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
            warnings.showwarning = self._hear

    def _leave(self) -> None:
        with self._lock:
            self._num_readers -= 1
            if not self._num_readers:
                self._catching.close()

    def _hear(self, *warning: Any, **place: Any) -> None:
        if hasattr(self._of_thread, "warned"):
            self._of_thread.warned = True
        else:
            self._show(*warning, **place)


_heard = _Hearing()
