"""The base classes of families: how a root network shrinks, and which blocks remain."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, cast

from torch import Tensor, nn

from sortednet_cli.errors import RequestError, SortednetError, reason_of
from sortednet_cli.families.channels import reorder_channels
from sortednet_cli.families.fused import Fused
from sortednet_cli.families.root import Config, Root, check_blocks
from sortednet_cli.families.same_names import same_names
from sortednet_cli.families.shared import Inputs, SharedPass, Step, TreePass, WholePass
from sortednet_cli.machine.memory import lack_of_memory
from sortednet_cli.space import SubModel, kept_blocks
from sortednet_cli.spec import ModelSpec
from sortednet_cli.spec.families import FamilyFacts, family_facts


class Family(ABC):
    """One root network, and the rules that shrink it. It holds no weights."""

    loader: str
    """Name of the class or function that builds the module, for people."""

    card: str
    """Python lines that load an artifact from its folder without this package."""

    library = "sortednet-cli"
    """Name of the package that loads an artifact from the hub, by its name there."""

    hub_card = 'sortednet_cli.load_artifact("user/name").module()'
    """The Python expression that does so."""

    tokenizer_card = ""
    """Python lines that load the artifact's tokenizer, if it has one."""

    refusals: tuple[type[Exception], ...] = (
        *(ArithmeticError, IndexError, RuntimeError, TypeError, ValueError),
    )
    """Errors that the stock class raises for a configuration that it cannot build or run. Any other
    error is a bug."""

    classifier = ""
    """Path of the module whose outputs are as many as the classes; empty if it is not known."""

    shares_depths = False
    """Whether one pass can serve sub-models that differ only in depth."""

    declares_fused = True
    """Whether `fused` surely holds every fused tensor; if not, shapes are searched for others."""

    shares_buffers = False
    """Whether non-persistent buffers are the same in every sub-model."""

    def __init__(self, root: Root) -> None:
        self.root = root

    @classmethod
    def open(cls, root: Root, allowed_factories: Collection[str]) -> Self:
        """Make the family of a root network.

        Args:
            allowed_factories: custom factories that the user allows to run, as `MODULE:NAME`.
        """
        return cls(root)

    @classmethod
    def complete_config(
        cls,
        model: ModelSpec,
        task: str,
        facts: Mapping[str, Any],
        stock: Mapping[str, Any] | None = None,
    ) -> Config:
        """Complete a spec's `model.config` with entries that follow from the data.

        Arguments and errors are those of `root_of`.
        """
        return {"num_classes": facts["num_classes"], **model.config}

    @property
    def facts(self) -> FamilyFacts:
        """Properties of the family that do not depend on the root network."""
        return family_facts(self.root.family)

    @property
    def fused(self) -> Mapping[str, Fused]:
        """The fused tensors of the root network, by a pattern of their or their module's name."""
        return {}

    @property
    def num_alike_layers(self) -> int:
        """The number of the root's layers if all of them cost the same, else 0.

        The cost of any depth then follows from the cost of two depths.
        """
        return 0

    @property
    def max_depth(self) -> int:
        """The number of the root's blocks that depth counts; 0 if it has no depth axis."""
        return self.num_alike_layers

    def state_channels(self, config: Config) -> int:
        """Return the number of channels between layers, for families with alike layers."""
        raise NotImplementedError

    def layers(self, module: nn.Module) -> Sequence[nn.Module]:
        """List the layers of a module that can be sharded, in the order in which they run."""
        return ()

    def build(self, config: Config) -> nn.Module:
        """Build the stock module of a configuration, with freshly initialised weights.

        Raises:
            RequestError: the stock class refuses the configuration.
        """
        with self._report_refusals():
            return self.construct(config)

    @abstractmethod
    def construct(self, config: Config) -> nn.Module:
        """Call the stock constructor and nothing else, since its errors are the user's."""

    def try_out(self, module: nn.Module, inputs: Inputs) -> Tensor:
        """Run a module as `forward` does, to find errors of the configuration.

        Raises:
            RequestError: the stock class refuses the inputs.
        """
        with self._report_refusals():
            return self.forward(module, inputs)

    def refusal(self, error: Exception) -> str:
        """Describe an error of the stock class to the user."""
        return f"{self.root.family} refused it: {reason_of(error)}"

    @contextmanager
    def _report_refusals(self) -> Iterator[None]:
        """Turn the errors in `refusals` into a RequestError."""
        try:
            yield
        except SortednetError:
            raise
        except self.refusals as error:
            if lack_of_memory(error):
                raise
            raise RequestError(f"model.config: {self.refusal(error)}") from error

    @abstractmethod
    def shrink(self, submodel: SubModel) -> Config:
        """Return the sub-model's stock configuration; RequestError if an axis value is illegal."""

    @abstractmethod
    def module_map(self, submodel: SubModel) -> dict[str, str | None]:
        """Map each path of the sub-model's module that holds tensors to its path in the root.

        The longest path that matches a tensor's name applies. Every kept block must be mapped, and
        so must every part outside the blocks (stem, head). A tensor that no path matches, or whose
        path is mapped to None, is an error.
        """

    def forward(self, module: nn.Module, inputs: Inputs) -> Tensor:
        """Call a module as its users do, and return its logits."""
        return cast(Tensor, module(inputs))

    def logits_module(self, module: nn.Module) -> nn.Module:
        """Return a module that maps `logits_inputs` (a tensor, or named ones) to logits alone."""
        return module

    def logits_inputs(self, inputs: Inputs) -> Inputs:
        """Return the inputs of `logits_module`: those of `forward`, completed."""
        return inputs

    def shared_pass(
        self, submodels: Sequence[SubModel], at: Callable[[SubModel], nn.Module]
    ) -> SharedPass:
        """Make a pass that serves several depths and runs the blocks they share once.

        Args:
            submodels: the deepest first; exactly one unless the family `shares_depths`.
            at: returns the module of a sub-model, in the mode in which it will run.
        """
        (submodel,) = submodels
        return WholePass(at(submodel), self.forward)

    def compiled_parts(self, submodel: SubModel, module: nn.Module) -> list[nn.Module]:
        """List the modules that a sub-model's pass calls whole, so that they can be compiled."""
        return [module]

    def branch_end(self, block: nn.Module) -> Tensor | None:
        """Return the weight that turns a residual block into the identity if it is zero.

        Return None for a block whose shortcut is not the identity.
        """
        return None

    def starting_names(
        self,
        module: nn.Module,
        shapes: Mapping[str, tuple[int, ...]],
        read: Callable[[str], Tensor],
        where: str,
    ) -> dict[str, str]:
        """Map the root network's tensors to the checkpoint's tensors that initialise them.

        Tensors that are left out keep their fresh weights: those of a head of another size, as the
        log says.

        Args:
            module: the root network; only its names and shapes are used.
            shapes: the shapes of the checkpoint's tensors by name.
            read: reads a tensor of the checkpoint by its name.
            where: the checkpoint's name in messages.

        Raises:
            RequestError: the checkpoint does not fit.
        """
        return same_names(module, self.classifier, shapes, where)

    def load_pretrained(self, module: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
        """Copy a checkpoint into the root network, by `starting_names`; raises its errors."""
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        names = self.starting_names(module, shapes, tensors.__getitem__, where)
        own = module.state_dict()
        fitting = {name: tensors[stored].to(own[name].dtype) for name, stored in names.items()}
        module.load_state_dict(fitting, strict=False)

    def reorder(
        self, module: nn.Module, batches: Sequence[Inputs], *, by_activation: bool = False
    ) -> None:
        """Permute the root network's units so that the most important come first.

        Args:
            batches: of training inputs; at least one.
            by_activation: whether to order by activations on all of them, and not by weights.

        Raises:
            RequestError: the network cannot be reordered.
        """
        reorder_channels(module, cast(Sequence[Tensor], batches), by_activation=by_activation)

    def stored_config(self, config: Config, dtype: str) -> Config:
        """Return the contents of an artifact's `config.json`.

        Args:
            dtype: torch's name of the dtype of the weights, such as `float32`.
        """
        return config

    def load(self, folder: Path, config: Config, tensors: Mapping[str, Tensor]) -> nn.Module:
        """Load an artifact's module as its users do.

        Args:
            folder: the artifact's folder, with configuration and weights.
            config: the sub-model's stock configuration.
            tensors: the stored weights.
        """
        module = self.build(config)
        module.load_state_dict(tensors, strict=True)
        return module


class StagedFamily(Family):
    """A family whose blocks lie in stages; depth removes blocks from the ends of stages."""

    shares_depths = True

    def __init__(self, root: Root) -> None:
        super().__init__(root)
        check_blocks(self.stages)

    @property
    @abstractmethod
    def stages(self) -> Sequence[int]:
        """The number of blocks in each stage of the root."""

    @property
    def max_depth(self) -> int:
        return sum(self.stages)

    def kept(self, submodel: SubModel) -> tuple[int, ...]:
        """Return the number of blocks that each stage keeps."""
        depth = int(submodel.axes.get("depth", sum(self.stages)))
        return kept_blocks(self.stages, depth, self.root.depth_order)

    @abstractmethod
    def steps(self, submodel: SubModel, module: nn.Module) -> list[Step]:
        """List the steps of a sub-model's module, from its inputs to the state before its tail."""

    def compiled_parts(self, submodel: SubModel, module: nn.Module) -> list[nn.Module]:
        return [part for step in self.steps(submodel, module) for part in step.modules]

    @abstractmethod
    def tail(self, module: nn.Module, states: Tensor) -> Tensor:
        """Compute logits from the state after the last step; uses no normalisation statistics."""

    def shared_pass(
        self, submodels: Sequence[SubModel], at: Callable[[SubModel], nn.Module]
    ) -> SharedPass:
        modules = [at(submodel) for submodel in submodels]
        pairs = zip(submodels, modules, strict=True)
        return TreePass(modules, [self.steps(s, module) for s, module in pairs], self.tail)


def width_of(submodel: SubModel) -> float:
    """Return the sub-model's width as a fraction of the root's."""
    return float(submodel.axes.get("width", 1))
