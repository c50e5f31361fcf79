"""Which sub-model a request gets: one by its name, or the best one that is fast enough. No torch.

A model's name is `NAME` for the largest sub-model, `NAME:w0.5-d8` or `NAME:width=0.5,depth=8` for
one of the search space, and `NAME:auto` for the best one within a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sortednet_cli.engine.evaluation.frontier import pareto, score_of
from sortednet_cli.engine.serving.jobs import Size
from sortednet_cli.engine.sources.table import Row
from sortednet_cli.errors import RequestError, listed, suggestion
from sortednet_cli.space import SearchSpace, SubModel
from sortednet_cli.spec.measures import Measure

AUTO = "auto"
_LONGEST = 512
"""Most characters of a model's name."""
_FEW = 16
"""Most sizes that a message lists."""


class UnknownModel(RequestError):
    """There is no model of that name."""


class ModelNames:
    """The names of a source's sub-models.

    Args:
        name: the source's name.
    """

    def __init__(self, name: str, space: SearchSpace) -> None:
        self.name, self.space = name, space
        self._named = {submodel.name: submodel for submodel in space.submodels}

    def of(self, submodel: SubModel) -> str:
        """Return the full name of a sub-model."""
        return f"{self.name}:{submodel.name}"

    def read(self, model: str, max_latency_ms: float | None = None) -> Size:
        """Read the name of a model.

        Raises:
            UnknownModel: there is none of that name.
            RequestError: `NAME:auto` has no limit, or another name has one.
        """
        if len(model) > _LONGEST:
            raise UnknownModel(f"no model has a name of {len(model):,} characters")
        size = model.removeprefix(f"{self.name}:")
        if size == AUTO and model != AUTO:
            if max_latency_ms is None:
                raise RequestError(f"model {model!r} needs max_latency_ms")
            return Size(None, max_latency_ms)
        if max_latency_ms is not None:
            raise RequestError(f"max_latency_ms is only for model '{self.name}:{AUTO}'")
        if model == self.name:
            return Size(self.space.largest)
        if model.startswith(f"{self.name}:"):
            return Size(self._submodel(model, size))
        hint = suggestion(model, [self.name, f"{self.name}:{AUTO}", *map(self.of, self._few())])
        raise UnknownModel(
            f"no model {model!r}{hint}: the models are {self.name!r}, '{self.name}:{AUTO}' and"
            f" '{self.name}:SIZE'"
        )

    def _submodel(self, model: str, size: str) -> SubModel:
        if size in self._named:
            return self._named[size]
        try:
            if "=" in size:
                return self.space.resolve(_axes(size))
        except RequestError as error:
            raise UnknownModel(f"no model {model!r}: {error}") from error
        hint, space = suggestion(size, (s.name for s in self._few())), self.space
        sizes = f"run from {space.smallest} to {space.largest}"
        if len(space) <= _FEW:
            sizes = f"are {listed(space.submodels)}"
        raise UnknownModel(f"no model {model!r}{hint}: the sizes {sizes}")

    def _few(self) -> Sequence[SubModel]:
        """Those that suggestions are made of: looking for a near name takes long among many."""
        return self.space.submodels[-1024:]


class SizeChooser:
    """Chooses the best sub-model that is fast enough, by times that are measured when needed.

    Args:
        name: the source's name, for messages.
        rows: the scored sub-models; empty if there are no scores.
        measure: what they are compared by.
        unit: what a latency is for: a token or an image.
    """

    def __init__(self, name: str, rows: Sequence[Row], measure: Measure | None, unit: str) -> None:
        self._name, self._unit = name, unit
        scores = [] if measure is None else [(score_of(measure, row), row.macs) for row in rows]
        marked = zip(rows, scores, pareto(scores), strict=True) if scores else ()
        best = sorted(((score, row) for row, score, mark in marked if mark), key=lambda p: p[0])
        self._candidates = [row.submodel for _, row in reversed(best)]
        self.measured: dict[SubModel, float] = {}
        """Milliseconds by sub-model, so far."""

    def choose(
        self, size: Size, measure: Callable[[SubModel], float]
    ) -> tuple[SubModel, float | None]:
        """Return a request's sub-model, and its milliseconds if they decided.

        Args:
            measure: measures a sub-model's milliseconds.

        Raises:
            RequestError: there are no scores to choose by, or no sub-model is fast enough.
        """
        if size.submodel is not None:
            return size.submodel, None
        assert size.max_latency_ms is not None
        if not self._candidates:
            raise RequestError(
                f"{self._name} has no scores to choose by: name a size instead of {AUTO}"
            )
        for submodel in self._candidates:
            if submodel not in self.measured:
                self.measured[submodel] = measure(submodel)
            if self.measured[submodel] <= size.max_latency_ms:
                return submodel, self.measured[submodel]
        fastest = min(self._candidates, key=self.measured.__getitem__)
        raise RequestError(
            f"max_latency_ms {size.max_latency_ms:g}: no sub-model is that fast; the fastest,"
            f" {fastest}, takes {self.measured[fastest]:.3g} ms per {self._unit}"
        )


def _axes(text: str) -> dict[str, float]:
    """Parse `width=0.5,depth=8`; RequestError if it is not of that form."""
    axes = {}
    for part in text.split(","):
        axis, _, value = part.partition("=")
        if axis in axes:
            raise RequestError(f"{axis} is given twice in {text!r}")
        try:
            axes[axis] = float(value)
        except ValueError as error:
            raise RequestError(f"{part!r} is not of the form AXIS=VALUE") from error
    return axes
