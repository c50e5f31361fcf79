"""The worker that classifies images: one batch for each size that is being asked for."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sortednet_cli.data import ImageFormat
from sortednet_cli.data.images.decode import ImageDecoder, resize_and_crop, to_pixels
from sortednet_cli.data.images.format import scale_and_shift
from sortednet_cli.data.images.pillow import open_image
from sortednet_cli.data.images.stream import EVAL_CROP
from sortednet_cli.engine.evaluation.latency import median_ms
from sortednet_cli.engine.serving.choice import SizeChooser
from sortednet_cli.engine.serving.jobs import Classified, Job
from sortednet_cli.engine.serving.metrics import Metrics
from sortednet_cli.machine.device import true_fp32
from sortednet_cli.machine.transfer import fetch, send
from sortednet_cli.nesting import NestedNetwork
from sortednet_cli.space import SubModel

_WARMUP, _REPEATS = 2, 9
"""Passes before and of a measurement of the time per image."""


def image_reader(image_format: ImageFormat, crops: bool) -> Callable[[bytes], Tensor]:
    """Return a function from a file's bytes to pixels, uint8 [C, H, W], as scoring makes them.

    Args:
        crops: whether the model was trained on random crops, and sees the central part.
    """
    size = image_format.image_size
    decoder = ImageDecoder(image_format.channels, size, resize=True)

    def read(data: bytes) -> Tensor:
        """Decode an image; RequestError if it is not a readable one."""
        if not crops:
            return torch.from_numpy(decoder(data, "the image", []).copy())
        image = open_image(data, "the image", image_format.channels, [])
        cropped = resize_and_crop(image, round(size / EVAL_CROP), size)
        return torch.from_numpy(to_pixels(cropped).copy())

    return read


class ImageWorker:
    """Classifies images; those that wait for one size share a pass.

    Args:
        network: the root network.
        sizes: chooses sub-models by their speed.
    """

    def __init__(
        self,
        network: NestedNetwork,
        image_format: ImageFormat,
        sizes: SizeChooser,
        metrics: Metrics,
    ) -> None:
        self._network, self._sizes, self._metrics = network, sizes, metrics
        self._scale, self._shift = scale_and_shift(image_format)
        self._random = image_format.random_inputs
        self._jobs: dict[SubModel, list[Job]] = {}

    def begin(self, job: Job) -> None:
        submodel, latency = self._sizes.choose(job.size, self.latency_ms)
        job.start(submodel, latency)
        self._jobs.setdefault(submodel, []).append(job)

    def step(self) -> None:
        waiting, self._jobs = self._jobs, {}
        for submodel, jobs in waiting.items():
            if running := [job for job in jobs if not job.is_over]:
                pixels = torch.stack([job.work for job in running])
                rows = self._probabilities(submodel, pixels * self._scale + self._shift)
                self._metrics.count_step(submodel.name)
                for job, row in zip(running, rows.tolist(), strict=True):
                    job.end(Classified(row))
            for job in jobs:
                job.end()

    def rest(self) -> None:
        pass

    def latency_ms(self, submodel: SubModel) -> float:
        """Measure the median time of a pass over one image, in milliseconds."""
        images = self._random(1)
        return median_ms(lambda: self._probabilities(submodel, images), _WARMUP, _REPEATS)

    @torch.inference_mode()
    @true_fp32()
    def _probabilities(self, submodel: SubModel, images: Tensor) -> Tensor:
        """Compute probabilities [B, classes] of normalised images [B, C, H, W]."""
        module, network = self._network.at(submodel), self._network
        logits = network.family.forward(module, send(images, network.device))
        return fetch(logits.float().softmax(-1))
