"""The tracker `tensorboard`: an event file, written by this process at once."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sortednet_cli.engine.training.trackers.base import Tracker, require
from sortednet_cli.storage.files import writing


class TensorBoard(Tracker):
    """Writes scalars into a new event file of the folder `tensorboard` of a run.

    What an earlier file holds of updates from the first one on is no longer shown.

    The file grows record by record, as all event files do: a kill may cut the last one short,
    which TensorBoard passes over. (torch's own writer has a thread, and a full disk ends that
    thread with a traceback.)
    """

    @classmethod
    def check(cls) -> None:
        require("tensorboard", "tensorboard")

    def __init__(self, run: Path, first: int) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder = run / "tensorboard"
        name = f"events.out.tfevents.{time.time_ns()}.{platform.node()}.{os.getpid()}"
        self._path = folder / name
        with writing(self._path):
            folder.mkdir(exist_ok=True)
            self._file = self._path.open("xb", buffering=0)
        self._writer = RecordWriter(self._file)
        try:
            self._write(step=first, file_version="brain.Event:2")
            self._write(step=first, session_log=SessionLog(status=SessionLog.START))
        except BaseException:
            self._file.close()
            raise

    def record(self, update: int, values: Mapping[str, float]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        for name, value in values.items():
            summary = Summary(value=[Summary.Value(tag=name, simple_value=value)])
            self._write(step=update, summary=summary)

    def record_frontier(self, rows: Sequence[Mapping[str, Any]], picture: Path) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        image = Summary.Image(encoded_image_string=picture.read_bytes())
        self._write(summary=Summary(value=[Summary.Value(tag="frontier", image=image)]))

    def close(self) -> None:
        with self._file, writing(self._path):
            os.fsync(self._file.fileno())

    def _write(self, **fields: object) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        with writing(self._path):
            self._writer.write(Event(wall_time=time.time(), **fields).SerializeToString())
