"""A source as a service: what it can be asked, checked and queued. Its worker has the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sortednet_cli.data import ImageFormat
from sortednet_cli.engine.generation.choice import make_chooser
from sortednet_cli.engine.generation.prompts import Prompts
from sortednet_cli.engine.generation.text import TextStream
from sortednet_cli.engine.requests import SamplingOptions, ServeRequest
from sortednet_cli.engine.serving.batch import Sequence as Tokens
from sortednet_cli.engine.serving.choice import ModelNames, SizeChooser
from sortednet_cli.engine.serving.images import ImageWorker, image_reader
from sortednet_cli.engine.serving.jobs import Event, Job, Size
from sortednet_cli.engine.serving.metrics import Metrics
from sortednet_cli.engine.serving.scheduler import Scheduler
from sortednet_cli.engine.serving.texts import TextWork, TextWorker
from sortednet_cli.engine.sources.source import Source
from sortednet_cli.errors import RequestError
from sortednet_cli.families.transformers.stock_configs import end_tokens, with_end
from sortednet_cli.machine.device import choose_device
from sortednet_cli.nesting import NestedNetwork
from sortednet_cli.spec.measures import measure_of

Emit = Callable[[Event], None]


@dataclass(frozen=True)
class Service:
    """What every service has.

    Attributes:
        names: the names of its models.
        rows: the records of the scored sub-models by name.
        metrics: counts what is done.
        scheduler: has the queue, and works.
    """

    names: ModelNames
    rows: Mapping[str, Mapping[str, Any]]
    metrics: Metrics
    scheduler: Scheduler


@dataclass(frozen=True)
class TextService(Service):
    """Continues texts.

    Attributes:
        prompts: makes tokens of prompts.
        context: number of positions of the model.
        max_tokens: most new tokens that a request may ask for.
    """

    prompts: Prompts
    context: int
    max_tokens: int

    def encode(self, prompt: str) -> list[int]:
        """Tokenize a prompt; RequestError if it is empty or too long."""
        return self.prompts.encode(prompt, self.context)

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Tokenize a chat; RequestError if there is no template, or it refuses the messages."""
        return self.prompts.encode_chat(messages, self.context)

    def submit(
        self,
        size: Size,
        prompt: list[int],
        max_tokens: int | None,
        stops: Sequence[str],
        sampling: SamplingOptions | None,
        emit: Emit,
        *,
        is_chat: bool = False,
    ) -> Job:
        """Queue a text to generate.

        Args:
            prompt: tokens, which fit into the context.
            max_tokens: most new tokens; None for as many as there may be.
            stops: texts before which the text ends.
            sampling: None takes the most likely token each time.
            is_chat: whether the token that ends an answer in a chat ends the text.

        Raises:
            QueueFull, Closing: the scheduler's.
        """
        wanted = min(max_tokens or self.max_tokens, self.context - len(prompt))
        chooser = make_chooser(sampling)
        stream = TextStream(self.prompts.tokenizer, stops)
        end = self.prompts.chat_end if is_chat else None
        job = Job(size, TextWork(Tokens(prompt, wanted, chooser), stream, end), emit)
        self.scheduler.submit(job)
        return job


@dataclass(frozen=True)
class ImageService(Service):
    """Classifies images.

    Attributes:
        classes: names of the classes.
        read: decodes a file's bytes; RequestError if it is not a readable image.
    """

    classes: tuple[str, ...]
    read: Callable[[bytes], Any]

    def submit(self, size: Size, image: Any, emit: Emit) -> Job:
        """Queue an image that `read` returned; raises the scheduler's QueueFull and Closing."""
        job = Job(size, image, emit)
        self.scheduler.submit(job)
        return job


def open_service(source: Source, request: ServeRequest) -> TextService | ImageService:
    """Load a source's weights, and make the service of its kind.

    Raises:
        RequestError: the source neither generates texts nor classifies images, its files are
            damaged, there is no such device, or `max_tokens` exceeds the context.
    """
    is_image = isinstance(source.format, ImageFormat)
    prompts = None if is_image else Prompts(source)
    device = choose_device(request.device)
    network = source.network(device, channels_last=is_image and source.channels_last)
    name = source.path.resolve().name
    rows = [row for row in source.rows.values() if row.metrics.get("validation")]
    measure = measure_of(source.format.task) if rows else None
    sizes = SizeChooser(name, rows, measure, source.format.unit)
    names, metrics = ModelNames(name, source.space), Metrics()
    records = {row.submodel.name: row.record("validation") for row in rows}

    def scheduled(worker: TextWorker | ImageWorker) -> Scheduler:
        return Scheduler(worker, request.max_active, request.max_queue, metrics)

    if prompts is None:
        form = cast(ImageFormat, source.format)
        read = image_reader(form, getattr(source.data, "augment", None) == "resized-crop")
        worker = ImageWorker(network, form, sizes, metrics)
        return ImageService(names, records, metrics, scheduled(worker), form.classes, read)
    context = _context(network)
    if request.max_tokens is not None and request.max_tokens >= context:
        raise RequestError(f"--max-tokens {request.max_tokens}: the context is {context} tokens")
    ends = end_tokens(with_end(source.generation, prompts.end))
    texts = TextWorker(network, sizes, ends, metrics)
    most = request.max_tokens or context - 1
    return TextService(names, records, metrics, scheduled(texts), prompts, context, most)


def _context(network: NestedNetwork) -> int:
    """Return the number of positions of a causal model, which every sub-model has."""
    config: Any = network.at(network.space.largest).config
    return int(config.max_position_embeddings)
