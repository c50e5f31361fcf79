"""What a pass asks of a device, recorded once and then asked by a single launch.

Knows when work on tensors is recorded, and what recordings take; not what the work is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass, replace
from functools import partial
from typing import Any, Protocol, cast
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from sortednet_cli.errors import RequestError
from sortednet_cli.logs import logger

MAX_GRAPHS = 256
"""Most graphs at a time; the one that was replayed longest ago leaves."""

MEMORY_SHARE = 0.25
"""The part of the device's memory that graphs and their shared pool may take together."""

WARMUPS = 2
"""How often a pass runs as it is before it is recorded: first runs load kernels and libraries."""

Work = Callable[..., list[Tensor]]
"""Work on the device: from nested inputs to tensors without an autograd graph."""


class NotRecordable(Exception):
    """Work cannot be recorded; the message says why."""


class Recording(Protocol):
    """Recorded work.

    Attributes:
        outputs: where each replay leaves what the work returns.
        pool_bytes: by how much it enlarged the pool, which all recordings share.
        own_bytes: what it takes beside the pool.
    """

    outputs: Sequence[Tensor]
    pool_bytes: int
    own_bytes: int

    def replay(self) -> None: ...


class Recorder(Protocol):
    """Records work on one device.

    Attributes:
        limit: most bytes that recordings and their pool may take.
    """

    limit: int

    def warm_up(self, work: Callable[[], list[Tensor]]) -> list[Tensor]:
        """Run work as it is."""

    def record(self, work: Callable[[], list[Tensor]]) -> Recording:
        """Record work without running it; raise NotRecordable if that cannot be."""


class _Buffers:
    """Where recordings read their inputs. Those whose inputs are alike share them."""

    def __init__(self, inputs: Any) -> None:
        self.inputs = _rebuilt(inputs, iter([t.clone() for t in _tensors(inputs)]))
        self._tensors = _tensors(self.inputs)

    def fill(self, inputs: Any) -> None:
        _copy(self._tensors, _tensors(inputs))


@dataclass
class _Place:
    """What is known of one kind of pass."""

    runs: int = 0
    recording: Recording | None = None
    buffers: _Buffers | None = None


class PassGraphs:
    """Runs work, and after a few times of the same kind replays its recording.

    Work is of the same kind if its key is, and the shapes, strides and types of its inputs are. It
    must then do the same to the device each time: what it reads of the host becomes part of the
    recording.

    Args:
        required: the setting by which work that cannot be recorded is an error. Without one,
            nothing more is recorded from then on.
    """

    def __init__(self, recorder: Recorder, required: str = "") -> None:
        self._recorder = recorder
        self._required = required
        self._stopped = False
        self._places: OrderedDict[Hashable, _Place] = OrderedDict()
        self._buffers: WeakValueDictionary[Hashable, _Buffers] = WeakValueDictionary()
        self._pool_bytes = 0

    def run(self, key: Hashable, work: Work, *inputs: Any) -> list[Tensor]:
        """Return what `work(*inputs)` returns, in tensors of their own.

        Raises:
            RequestError: the work cannot be recorded, and recordings are required.
        """
        if self._stopped:
            return work(*inputs)
        form = _form(inputs)
        place = self._place((key, form))
        if place.recording is None and place.runs < WARMUPS:
            place.runs += 1
            return self._recorder.warm_up(partial(work, *inputs))
        if place.recording is None:
            self._record(place, work, form, inputs)
        if place.recording is None or place.buffers is None:
            return work(*inputs)
        place.buffers.fill(inputs)
        place.recording.replay()
        # The next replay of any recording may write where this one's outputs lie.
        outputs = [torch.empty_like(tensor) for tensor in place.recording.outputs]
        _copy(outputs, place.recording.outputs)
        return outputs

    @property
    def bytes_held(self) -> int:
        """Memory of the device that recordings and their pool take."""
        return self._pool_bytes + sum(recording.own_bytes for recording in self._recordings())

    def clear(self) -> None:
        """Forget every recording, and give their memory back."""
        self._places.clear()
        self._pool_bytes = 0

    def _place(self, key: Hashable) -> _Place:
        place = self._places.setdefault(key, _Place())
        self._places.move_to_end(key)
        while len(self._places) > MAX_GRAPHS:
            self._places.popitem(last=False)
        return place

    def _record(self, place: _Place, work: Work, form: Hashable, inputs: Any) -> None:
        buffers = self._buffers.get(form)
        if buffers is None:
            buffers = self._buffers[form] = _Buffers(inputs)
        try:
            place.recording = self._recorder.record(partial(work, *buffers.inputs))
        except NotRecordable as error:
            self._stop(str(error))
            return
        place.buffers = buffers
        self._pool_bytes += place.recording.pool_bytes
        self._keep_within_limit()

    def _keep_within_limit(self) -> None:
        """Let recordings leave, the newest last, until the others fit."""
        limit = self._recorder.limit
        for key, place in list(self._places.items())[:-1]:
            if self.bytes_held <= limit or self._pool_bytes > limit:
                break
            if place.recording is not None:
                del self._places[key]
        if self.bytes_held > limit:
            share = f"{MEMORY_SHARE:.0%} of the device's memory"
            self._stop(f"recorded passes would take {self.bytes_held:,} bytes, more than {share}")

    def _recordings(self) -> Iterator[Recording]:
        for place in self._places.values():
            if place.recording is not None:
                yield place.recording

    def _stop(self, reason: str) -> None:
        """Record nothing more."""
        if self._required:
            raise RequestError(
                f'{self._required}: a pass cannot be recorded: {reason}; set "auto" or false'
            )
        logger.debug("passes run without CUDA graphs: %s", reason)
        self._stopped = True
        for place in self._places.values():
            place.recording = place.buffers = None
        self.clear()


def _copy(into: Sequence[Tensor], of: Sequence[Tensor]) -> None:
    """Copy tensors, if there are any, by one launch."""
    if into:
        torch._foreach_copy_(list(into), list(of))


def _tensors(nest: Any) -> list[Tensor]:
    """The tensors of nested tuples, lists, mappings and dataclasses, in order."""
    if isinstance(nest, Tensor):
        return [nest]
    if is_dataclass(nest):
        nest = vars(nest)
    if isinstance(nest, Mapping):
        nest = nest.values()
    elif not isinstance(nest, (tuple, list)):
        return []
    return [tensor for part in nest for tensor in _tensors(part)]


def _rebuilt(nest: Any, tensors: Iterator[Tensor]) -> Any:
    """The same nest with other tensors in it."""
    if isinstance(nest, Tensor):
        return next(tensors)
    if is_dataclass(nest):
        return replace(cast(Any, nest), **_rebuilt(vars(nest), tensors))
    if isinstance(nest, Mapping):
        return {name: _rebuilt(part, tensors) for name, part in nest.items()}
    if isinstance(nest, (tuple, list)):
        return type(nest)(_rebuilt(part, tensors) for part in nest)
    return nest


def _form(nest: Any) -> Hashable:
    """What a recording takes for granted of a nest: all but the values of its tensors."""
    if isinstance(nest, Tensor):
        return (nest.shape, nest.stride(), nest.dtype)
    if is_dataclass(nest):
        nest = vars(nest)
    if isinstance(nest, Mapping):
        return tuple((name, _form(part)) for name, part in nest.items())
    if isinstance(nest, (tuple, list)):
        return tuple(map(_form, nest))
    hash(nest)
    return (type(nest), nest)
