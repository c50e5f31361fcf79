"""Language models: exits of one pass, tied weights, pretrained weights, reordering."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from sortednet_cli.engine.evaluation.batch_sizes import BatchSizes
from sortednet_cli.engine.evaluation.score import score
from sortednet_cli.engine.loaded import load_run
from sortednet_cli.engine.training.events import Finished
from sortednet_cli.engine.training.loop import Trainer
from sortednet_cli.engine.training.optimizer import RootOptimizer
from sortednet_cli.engine.training.start import create_session, reopen_session
from sortednet_cli.errors import RequestError
from sortednet_cli.families import (
    open_family,
    root_of,
)
from sortednet_cli.nesting import NestedNetwork, init_network
from sortednet_cli.rules import make_rule
from sortednet_cli.space import SubModel
from sortednet_cli.spec import TrainSpec, load_preset
from sortednet_cli.storage.pretrained import open_pretrained
from sortednet_cli.tasks import LanguageModelling, Targets, TextClassification, make_task
from tests.commands import command
from tests.data.text.made import CPU, opened
from tests.pico import STOCK_PICOS, TEXT_PICOS, VOCAB, Pico

pytestmark = pytest.mark.filterwarnings("ignore:grad and param do not obey")

PICO_RUN = [
    "train.updates=3",
    "train.batch_size=4",
    "model.config.hidden_size=16",
    "model.config.num_hidden_layers=2",
    "model.config.intermediate_size=32",
    "space.depth=[1,2]",
    "data.vocab_size=400",
    "data.max_length=32",
]


@pytest.fixture(params=sorted(STOCK_PICOS))
def stock_pico(request: pytest.FixtureRequest) -> Pico:
    return STOCK_PICOS[request.param]


def test_the_tail_of_an_exit_is_the_shallower_models_output(stock_pico: Pico) -> None:
    network = stock_pico.network(training=False)
    task = TextClassification if stock_pico.task == "classification" else LanguageModelling
    targets = torch.zeros(4, dtype=torch.long)
    if task is LanguageModelling:
        targets = torch.zeros(4, 12, dtype=torch.long)
    for group in network.groups(network.space.submodels):
        shared = network.shared_pass(group, training=False)
        with torch.no_grad():
            for number, states in enumerate(shared.states(stock_pico.inputs())):
                scored = task(VOCAB).scored(states, Targets(targets))
                found = shared.logits(number, scored)
                alone = stock_pico.run(network.at(group[number]).eval())
                expected = alone.flatten(0, -2)
                torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 5.0]])
def test_sum_has_the_gradient_of_separate_runs(weights: list[float] | None) -> None:
    """Also with the head cut into chunks: logits of all rows are never held at once."""
    pico = TEXT_PICOS["llama"]
    settings = {"updates": 1, "rule": "sum", "depth_weights": weights, "precision": "fp32"}
    spec = TrainSpec.model_validate(settings)
    network = pico.network()
    rule = make_rule(spec, network.space)
    inputs = pico.inputs()
    targets = inputs["input_ids"].roll(-1, 1)
    targets[:, -1] = -100
    width = {"width": 1.0}
    shares = weights or [1.0, 1.0, 1.0]
    expected = {}
    for depth, weight in zip((1, 2, 3), shares, strict=True):
        submodel = SubModel.of({**width, "depth": depth})
        logits = pico.run(network.at(submodel).train())
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)
        (loss * weight / sum(shares)).backward()
    expected = {name: gradient.clone() for name, gradient in network.gradients.items()}
    network.zero_gradients()
    task = LanguageModelling(VOCAB)
    trainer = Trainer(network, task, rule, None, RootOptimizer(network, spec), spec)  # type: ignore[arg-type]
    drawn = [
        (SubModel.of({**width, "depth": depth}), weight / sum(shares))
        for depth, weight in zip((3, 2, 1), reversed(shares), strict=True)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sortednet_cli.tasks.chunks.MAX_CHUNK_LOGITS", 7 * VOCAB)
        trainer.micro_batches.add_gradients((inputs, targets), drawn)
    for name, gradient in network.gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-7, msg=name)


@pytest.mark.parametrize(
    "name", ["bert_classifier", "bert_masked", "roberta_classifier", "roberta_masked", "qwen2"]
)
def test_padding_never_changes_a_score(name: str, tmp_path: Path) -> None:
    """One sample a batch has no padding but its own; eight are padded to the longest of them."""
    pico = TEXT_PICOS[name]
    texts = opened(pico.task, tmp_path)
    family = open_family(root_of(pico.spec, pico.task, texts.format.facts()), [])
    network = NestedNetwork(family, pico.search_space, init_network(family, 0))
    with torch.no_grad():
        for parameter in network.parameters.values():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    outputs = 2 if pico.task == "classification" else texts.format.vocab_size
    made = make_task(pico.task, "text", outputs)
    (group, *_) = network.groups(network.space.submodels)
    found = [
        score(network, group, texts, ["train"], made, BatchSizes(size, size)) for size in (1, 8)
    ]
    widths = {inputs["input_ids"].shape[1] for inputs, _ in texts.train.batches(1, CPU)}
    assert len(widths) > 1 or pico.task == "answers"
    for submodel, metrics in found[0].items():
        for metric, value in metrics["train"].items():
            assert found[1][submodel]["train"][metric] == pytest.approx(value, rel=1e-5), metric


@pytest.mark.parametrize("by_activation", [False, True])
def test_reordering_keeps_the_function(stock_pico: Pico, by_activation: bool) -> None:
    family = stock_pico.family()
    module = init_network(family, 0).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        before = stock_pico.run(module)
        untouched = {name: p.clone() for name, p in module.named_parameters()}
        batches = [stock_pico.inputs(2), stock_pico.inputs(4)]
        family.reorder(module, batches, by_activation=by_activation)
        after = stock_pico.run(module)
    moved = [n for n, p in module.named_parameters() if not torch.equal(p, untouched[n])]
    assert len(moved) > len(untouched) / 2
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


def test_reordering_puts_the_largest_neurons_first() -> None:
    pico = TEXT_PICOS["llama"]
    family = pico.family()
    module = init_network(family, 0)
    mlp = module.get_submodule("model.layers.1.mlp")
    with torch.no_grad():
        mlp.down_proj.weight[:, 20] *= 100  # type: ignore[union-attr, index]
        wanted = mlp.up_proj.weight[20].norm()  # type: ignore[union-attr, index]
        family.reorder(module, [])
        found = mlp.up_proj.weight[0].norm()  # type: ignore[union-attr, index]
    assert math.isclose(float(found), float(wanted), rel_tol=1e-6)


def test_reordering_puts_the_most_active_neurons_first() -> None:
    pico = TEXT_PICOS["llama"]
    family = pico.family()
    module = init_network(family, 0)
    mlp: Any = module.get_submodule("model.layers.1.mlp")
    with torch.no_grad():
        mlp.up_proj.weight[20] *= 100
        mlp.down_proj.weight[:, 20] *= 1e-4
        wanted = mlp.up_proj.weight[20].norm()
        family.reorder(module, [pico.inputs(4)], by_activation=True)
        found = mlp.up_proj.weight[0].norm()
    assert math.isclose(float(found), float(wanted), rel_tol=1e-6)


def test_a_checkpoint_with_or_without_its_head_is_loaded() -> None:
    family = TEXT_PICOS["bert_classifier"].family()
    given = init_network(family, 1)
    bare = {n.removeprefix("bert."): t for n, t in given.state_dict().items() if "bert" in n}
    for tensors in (given.state_dict(), bare):
        module = init_network(family, 0)
        family.load_pretrained(module, tensors, "here")
        for name, tensor in module.state_dict().items():
            if name.startswith("bert."):
                assert torch.equal(tensor, given.state_dict()[name]), name


def test_what_does_not_fit_a_checkpoint_is_listed() -> None:
    family = TEXT_PICOS["llama"].family()
    tensors = dict(init_network(family, 1).state_dict())
    tensors["model.layers.9.extra"] = torch.zeros(1)
    tensors["model.norm.weight"] = torch.zeros(3)
    del tensors["model.layers.0.mlp.up_proj.weight"]
    with pytest.raises(RequestError) as caught:
        family.load_pretrained(init_network(family, 0), tensors, "here")
    message = str(caught.value)
    assert "missing model.layers.0.mlp.up_proj.weight" in message
    assert "unknown model.layers.9.extra" in message
    assert "misshapen model.norm.weight [3] for [16]" in message


def test_a_pickle_is_refused_with_the_command_that_converts_it(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(RequestError, match=r"is a pickle.*save_pretrained"):
        open_pretrained(str(tmp_path))


@pytest.mark.parametrize("name", ["./nowhere", "package:no_such_package/model", "package:json/x"])
def test_a_pretrained_model_that_is_not_there(name: str) -> None:
    with pytest.raises(RequestError, match=r"model\.pretrained"):
        open_pretrained(name)


def test_weights_outside_of_the_folder_are_not_read(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "secret.safetensors")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    index = '{"weight_map": {"x": "../secret.safetensors"}}'
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(RequestError, match="outside its folder"):
        open_pretrained(str(folder))


@pytest.mark.parametrize(
    ("pico", "axes", "legal"),
    [
        ("llama", {"width": 0.3}, "multiples of 1/4: 0.25, 0.5, 0.75, 1"),
        ("bert_classifier", {"width": 0.4}, "multiples of 1/4"),
        ("llama", {"depth": 4}, "depths 1 to 3"),
    ],
)
def test_a_value_that_breaks_heads_or_depth_is_refused(
    pico: str, axes: dict[str, float], legal: str
) -> None:
    with pytest.raises(RequestError, match=legal):
        TEXT_PICOS[pico].family().shrink(SubModel.of(axes))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.config.model_type=gpt2", "llama accepts llama, qwen2, mistral, not 'gpt2'"),
        ("model.config.no_such_key=1", "llama has no no_such_key"),
        ("model.config.vocab_size=100", "more than the 100 rows"),
        ("model.config.max_position_embeddings=16", "more than the 16 positions"),
        ("model.config.hidden_size=30", "not a multiple of the number of attention heads"),
    ],
)
def test_a_configuration_that_cannot_be(override: str, message: str, work: Path) -> None:
    sets = [part for setting in [*PICO_RUN, override] for part in ("--set", setting)]
    done = command("train", "--preset", "pydoc-llama", *sets)
    assert done.code == 2
    assert message in done.err
    assert not (work / "runs").exists()


def test_heads_of_bert_are_refused_with_the_reason() -> None:
    with pytest.raises(RequestError, match=r"space\.heads: bert: the stock class"):
        load_preset("sst2-bert", ["space.heads=[0.5,1.0]"])


def test_the_commands_on_a_language_run(work: Path) -> None:
    sets = [part for setting in PICO_RUN for part in ("--set", setting)]
    done = command("train", "--preset", "pydoc-llama", *sets, "--quiet")
    assert (done.code, done.err) == (0, ""), done
    scored = command("eval", "--all", "--json", "--quiet")
    assert scored.code == 0, scored
    best = command("frontier", "--json", "--max-params", "1M", "--quiet")
    assert best.code == 0, best
    assert '"metric": "perplexity"' in best.out
    cut = command("extract", "--depth", "1", "--quiet")
    assert (cut.code, cut.err) == (0, ""), cut
    folder = work / cut.out.strip()
    again = command("eval", "--json", "--quiet", str(folder))
    assert again.code == 0, again
    loads = (
        "import sys; sys.modules['sortednet_cli'] = None\n"
        "import torch; torch.set_num_threads(1)\n"
        "from safetensors.torch import load_file\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "model = AutoModelForCausalLM.from_pretrained('.').eval()\n"
        "tokenizer = AutoTokenizer.from_pretrained('.')\n"
        "check = load_file('check.safetensors')\n"
        "logits = model(input_ids=check['input_ids']).logits\n"
        "assert torch.equal(logits, check['logits'])\n"
        "inputs = tokenizer('The for statement', return_tensors='pt')\n"
        "assert model.generate(**inputs, max_new_tokens=3).shape[1] > 3\n"
    )
    subprocess.run([sys.executable, "-c", loads], cwd=folder, check=True, capture_output=True)


def test_a_resumed_language_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    spec = load_preset("pydoc-llama", [*PICO_RUN, "train.updates=6"])
    weights = []
    for name, stops in (("whole", []), ("cut", [3])):
        fit = create_session(tmp_path / name, spec, torch.device("cpu"))
        for stop in stops:
            calls = iter(range(1000))
            with pytest.raises(Exception, match="stopped"):
                list(fit.events(lambda: next(calls) >= stop))  # noqa: B023
            fit = reopen_session(fit.run, torch.device("cpu"), ())
        assert isinstance(list(fit.events())[-1], Finished)
        weights.append(load_run(tmp_path / name).network().weights)
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name
