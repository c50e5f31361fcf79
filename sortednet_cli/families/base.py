"""What every family states: how its root network shrinks, and which blocks remain."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, cast

from torch import Tensor, nn

from sortednet_cli.errors import RequestError, SortednetError, reason_of
from sortednet_cli.families.root import Config, Root, check_blocks
from sortednet_cli.families.shared import Inputs, SharedPass, Step, TreePass, WholePass
from sortednet_cli.machine.memory import lack_of_memory
from sortednet_cli.space import SubModel, kept_blocks
from sortednet_cli.spec import ModelSpec
from sortednet_cli.spec.families import FamilyFacts, family_facts


class Family(ABC):
    """The rules of one family, bound to one root network. Knows nothing of weights."""

    loader: str
    """Name of the class or function that builds the module, for people."""

    card: str
    """Python lines that load an artifact from its folder without this package."""

    tokenizer_card = ""
    """Further ones that load the tokenizer, where the folder has one."""

    refusals: tuple[type[Exception], ...] = (
        *(ArithmeticError, IndexError, RuntimeError, TypeError, ValueError),
    )
    """What the stock class raises over a configuration that it cannot build or run, such as torch's
    layers over sizes. Anything else that it raises is a bug."""

    shares_depths = False
    """Whether one pass can serve sub-models that differ in depth alone."""

    shares_buffers = False
    """Whether buffers that no file holds are the same in every sub-model."""

    def __init__(self, root: Root) -> None:
        self.root = root

    @classmethod
    def open(cls, root: Root, allowed_factories: Collection[str]) -> Self:
        """Bind the rules to a root network.

        Args:
            allowed_factories: code that the user allows to run by name.
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
        """Complete a spec's `model.config` with what the data decide; arguments as `root_of`."""
        return {"num_classes": facts["num_classes"], **model.config}

    @property
    def facts(self) -> FamilyFacts:
        """What the family is, whatever the root network."""
        return family_facts(self.root.family)

    @property
    def num_alike_layers(self) -> int:
        """How many layers the root has, if they are all alike; 0 if they are not.

        The cost of two depths then tells that of any.
        """
        return 0

    def state_channels(self, config: Config) -> int:
        """Count the channels of the states between layers that are all alike."""
        raise NotImplementedError

    def layers(self, module: nn.Module) -> Sequence[nn.Module]:
        """List the layers that a module runs one after another, if processes can share each."""
        return ()

    def build(self, config: Config) -> nn.Module:
        """Build the stock module of a configuration, with freshly initialised weights.

        Raises:
            RequestError: the stock class refuses the configuration.
        """
        with self._telling_refusals():
            return self.construct(config)

    @abstractmethod
    def construct(self, config: Config) -> nn.Module:
        """Call the stock constructor, and nothing else: what it refuses is told to the user."""

    def try_out(self, module: nn.Module, inputs: Inputs) -> Tensor:
        """Run a module as `forward` does, for what a configuration gets wrong only there.

        Raises:
            RequestError: the stock class refuses the inputs.
        """
        with self._telling_refusals():
            return self.forward(module, inputs)

    def refusal(self, error: Exception) -> str:
        """Tell a user what the stock class refused."""
        return f"{self.root.family} refused it: {reason_of(error)}"

    @contextmanager
    def _telling_refusals(self) -> Iterator[None]:
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
        """Return the sub-model's stock configuration; RequestError if a value is illegal."""

    @abstractmethod
    def module_map(self, submodel: SubModel) -> dict[str, str | None]:
        """Map each module path of the sub-model that holds tensors to its root path.

        The longest matching path decides. Every kept block is named, and so is everything
        outside the blocks (stem, head): a tensor under no named path, or under one mapped
        to None, is an error, never a guess.
        """

    def forward(self, module: nn.Module, inputs: Inputs) -> Tensor:
        """Run a module as its users do; return its logits."""
        return cast(Tensor, module(inputs))

    def shared_pass(
        self, submodels: Sequence[SubModel], at: Callable[[SubModel], nn.Module]
    ) -> SharedPass:
        """Make the pass that serves sub-models of different depth, doing what they share once.

        Args:
            submodels: the deepest first; one alone unless the family `shares_depths`.
            at: gives the module of a sub-model, in the mode that it will run in.
        """
        (submodel,) = submodels
        return WholePass(at(submodel), self.forward)

    def compiled_parts(self, submodel: SubModel, module: nn.Module) -> list[nn.Module]:
        """List the parts of a sub-model's module that its pass runs whole: they can be compiled."""
        return [module]

    def branch_end(self, block: nn.Module) -> Tensor | None:
        """Give the weight of a residual block that, at zero, makes it pass its input through.

        None for a block that does more than add to its input.
        """
        return None

    def starting_names(
        self,
        module: nn.Module,
        shapes: Mapping[str, tuple[int, ...]],
        read: Callable[[str], Tensor],
        where: str,
    ) -> dict[str, str]:
        """Tell which tensor of a checkpoint each of the root network's tensors starts from.

        Those that are not named keep their fresh weights. A family that `takes_pretrained` says so.

        Args:
            module: the root network; its values do not matter.
            shapes: of the checkpoint's tensors by name.
            read: gives a tensor of the checkpoint by its name.
            where: names the checkpoint in messages.

        Raises:
            RequestError: the checkpoint does not fit.
        """
        raise NotImplementedError

    def load_pretrained(self, module: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
        """Copy a checkpoint into the root network; see `starting_names`."""
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        names = self.starting_names(module, shapes, tensors.__getitem__, where)
        own = module.state_dict()
        fitting = {name: tensors[stored].to(own[name].dtype) for name, stored in names.items()}
        module.load_state_dict(fitting, strict=False)

    def reorder(self, module: nn.Module) -> None:
        """Permute the root network's units so that the most important come first.

        Raises:
            RequestError: the family has no order of importance.
        """
        raise RequestError(f"model.reorder: {self.root.family} has no order of importance")

    def stored_config(self, config: Config, dtype: str) -> Config:
        """Return what an artifact's `config.json` holds.

        Args:
            dtype: the type of its weights, in torch's words.
        """
        return config

    def load(self, folder: Path, config: Config, tensors: Mapping[str, Tensor]) -> nn.Module:
        """Load an artifact's module as its users do.

        Args:
            folder: the artifact, with configuration and weights in it.
            config: what was stored as its configuration.
            tensors: what was stored as its weights.
        """
        module = self.build(config)
        module.load_state_dict(tensors, strict=True)
        return module


class StagedFamily(Family):
    """A family whose blocks lie in stages, each cut from its end."""

    shares_depths = True

    def __init__(self, root: Root) -> None:
        super().__init__(root)
        check_blocks(self.stages)

    @property
    @abstractmethod
    def stages(self) -> Sequence[int]:
        """Number of blocks in each stage of the root."""

    def kept(self, submodel: SubModel) -> tuple[int, ...]:
        """Count the blocks that each stage keeps."""
        depth = int(submodel.axes.get("depth", sum(self.stages)))
        return kept_blocks(self.stages, depth, self.root.depth_order)

    @abstractmethod
    def steps(self, submodel: SubModel, module: nn.Module) -> list[Step]:
        """List what a sub-model's module runs, from its inputs to the state before its tail."""

    def compiled_parts(self, submodel: SubModel, module: nn.Module) -> list[nn.Module]:
        return [part for step in self.steps(submodel, module) for part in step.modules]

    @abstractmethod
    def tail(self, module: nn.Module, states: Tensor) -> Tensor:
        """Make logits of what the last step returns; without normalisation statistics."""

    def shared_pass(
        self, submodels: Sequence[SubModel], at: Callable[[SubModel], nn.Module]
    ) -> SharedPass:
        modules = [at(submodel) for submodel in submodels]
        pairs = zip(submodels, modules, strict=True)
        return TreePass(modules, [self.steps(s, module) for s, module in pairs], self.tail)


def width_of(submodel: SubModel) -> float:
    return float(submodel.axes.get("width", 1))
