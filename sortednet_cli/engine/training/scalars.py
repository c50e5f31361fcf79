"""Losses and learning rates for TensorBoard, written by this process at once."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sortednet_cli.errors import RequestError
from sortednet_cli.storage.files import writing

Record = Callable[[str, float, int], None]
"""Takes a name, a value and an update."""


@contextmanager
def scalars(folder: Path, wanted: bool, first: int) -> Iterator[Record]:
    """Give a function that records scalars into a new event file, or does nothing.

    What was recorded of updates from the `first` on is made again, and no longer shown.

    The file grows record by record, as all event files do: a kill may cut the last one short,
    which TensorBoard passes over. (torch's own writer has a thread, and a full disk ends that
    thread with a traceback.)

    Raises:
        RequestError: TensorBoard is not installed.
        WorkError: the file cannot be written.
    """
    if not wanted:
        yield lambda name, value, update: None
        return
    try:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ImportError as error:
        raise RequestError(
            "train.tensorboard needs: pip install 'sortednet-cli[tensorboard]'"
        ) from error
    path = folder / f"events.out.tfevents.{time.time_ns()}.{platform.node()}.{os.getpid()}"
    with writing(path):
        folder.mkdir(exist_ok=True)
        file = path.open("xb", buffering=0)
    with file:
        writer = RecordWriter(file)

        def write(**fields: object) -> None:
            with writing(path):
                writer.write(Event(wall_time=time.time(), **fields).SerializeToString())

        write(step=first, file_version="brain.Event:2")
        write(step=first, session_log=SessionLog(status=SessionLog.START))
        yield lambda name, value, update: write(
            step=update, summary=Summary(value=[Summary.Value(tag=name, simple_value=value)])
        )
        with writing(path):
            os.fsync(file.fileno())
