"""Every mistake ends with one clear message and its exit code, and leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import sealing
from tests.commands import TINY, command, listing, refused, waiting
from tests.data.made import tree_files, write_tree

RUN = Path("runs/digits-resnet")
FLAT = """
[model]
family = "custom"
factory = "{factory}"
depth_order = "prefix"
config = {{ {arguments} }}
axes = {{ width = {{ scales = ["hidden"] }} }}
[space]
width = [0.5, 1.0]
[train]
updates = 2
batch_size = 4
[data]
source = "image-folder"
path = "images"
"""


def flat_spec(factory: str = "tests.pico:FlatNet", arguments: str | None = None) -> Path:
    """Write a spec of a custom factory with the images that it wants."""
    write_tree(Path("images"), tree_files({"train": 6, "test": 2}))
    chosen = arguments or "hidden = 8, layers = 1, num_classes = 3"
    Path("flat.toml").write_text(FLAT.format(factory=factory, arguments=chosen))
    return Path("flat.toml")


def edit(path: Path, *keys: str | int, value: Any = None) -> None:
    """Set one value of a JSON file, under its right checksum; None removes it."""
    table: Any = json.loads(path.read_text())
    place = table
    for key in keys[:-1]:
        place = place[key]
    if value is None:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    path.write_text(json.dumps(table))
    sealing.reseal(path)


def unfinished() -> None:
    """Turn the finished run into one that was killed after its last checkpoint."""
    sealing.unfinished(RUN)
    for name in ("weights.safetensors", "statistics.safetensors", "frontier.json"):
        (RUN / name).unlink()


WRONG_SPECS = {
    "preset-close": (["--preset=digit-resnet"], ["did you mean digits-resnet?", "cifar10-resnet"]),
    "preset-far": (["--preset=zzz"], ["unknown preset 'zzz'", "digits-resnet"]),
    "no-spec": ([], ["--preset", "--config"]),
    "two-specs": (["--preset=digits-resnet", "--config=x.toml"], ["--preset", "--config"]),
    "no-file": (["--config=missing.toml"], ["missing.toml", "No such file"]),
    "folder-as-file": (["--config=."], ["cannot read the spec"]),
    "run-named": ([*TINY, "somewhere"], ["somewhere", "--out"]),
    "all-at-once": (
        [
            "--preset=digits-resnet",
            "--set=train.learning_rate=1",
            "--set=model.nope=1",
            "--set=train.updates=many",
            "--set=train.momentum=2",
            "--set=train.rule=nope",
            "--set=data.source=imagnet",
        ],
        [
            "train.learning_rate: unknown key",
            "model.nope: unknown key; the keys are family, name, config",
            "train.updates: ",
            "not 'many'",
            "train.momentum: ",
            "the rules are sorted, sandwich, sum, sandwich-sum, single",
            "unknown source 'imagnet'; the sources are digits, mnist",
        ],
    ),
    "close-key": ([*TINY, "--set=train.weight_deca=1"], ["did you mean weight_decay?"]),
    "set-form": ([*TINY, "--set=train.lr"], ["--set 'train.lr'", "a.b=value"]),
    "set-in-value": ([*TINY, "--set=train.lr.x=1"], ["--set 'train.lr.x=1'", "lr"]),
    "set-table": ([*TINY, "--set=train=1", "--set=train.epochs=1"], ["train"]),
    "space-scalar": ([*TINY, "--set=space.width=0.5"], ["space.width: must be a list, not 0.5"]),
    "space-empty": ([*TINY, "--set=space.width=[]"], ["space.width: needs at least one value"]),
    "space-twice": ([*TINY, "--set=space.width=[1,1.0]"], ["holds a value twice"]),
    "space-nan": ([*TINY, "--set=space.width=[nan,1]"], ["space.width", "finite"]),
    "space-zero": ([*TINY, "--set=space.width=[0,1]"], ["space.width: values must be positive"]),
    "space-wide": ([*TINY, "--set=space.width=[1,2]"], ["space.width", "at most 1"]),
    "space-half": ([*TINY, "--set=space.depth=[1.5]"], ["space.depth", "whole number"]),
    "axis": ([*TINY, "--set=space.heads=[1,2]"], ["space.heads", "the axes are width, depth"]),
    "family": (
        [*TINY, "--set=model.family=vgg"],
        ["unknown family 'vgg'", "preact_resnet", "custom"],
    ),
    "coincide": (
        [*TINY, "--set=space.width=[0.99,1.0]"],
        ["space: ", "w0.99-d1 and w1-d1 give the same network"],
    ),
    "too-deep": ([*TINY, "--set=space.depth=[1,9]"], ["depth 9 is out of range", "1 to 8"]),
    "too-thin": ([*TINY, "--set=space.width=[0.01,1]"], ["width 0.01 leaves no channel of 8"]),
    "batch-size": ([*TINY, "--set=train.batch_size=5000"], ["train.batch_size = 5000", "training"]),
    "accumulate": (
        [*TINY, "--set=train.accumulate=2147483648"],
        ["train.accumulate = 2147483648", " of train.batch_size = 128"],
    ),
    "depth-weights": (
        [*TINY, "--set=train.rule=sum", "--set=train.depth_weights=[1,2,3]"],
        ["train.depth_weights: 3 weights for 2 depths"],
    ),
    "weights-alone": (
        [*TINY, "--set=train.depth_weights=[1,2]"],
        ["train.depth_weights is only for the rules 'sum' and 'sandwich-sum'"],
    ),
    "submodel": (
        [*TINY, "--set=train.rule=single", "--set=train.submodel=w9-d9"],
        ["train.submodel", "no sub-model 'w9-d9'", "w0.5-d1 to w1-d8"],
    ),
    "model-key": ([*TINY, "--set=model.config.chanels=[8]"], ["model.config", "chanels"]),
    "model-type": ([*TINY, "--set=model.config.channels=8"], ["model.config"]),
    "model-text": ([*TINY, "--set=model.config.blocks=many"], ["model.config"]),
    "model-negative": ([*TINY, "--set=model.config.strides=[0]"], ["model.config"]),
    "model-short": ([*TINY, "--set=model.config.strides=[1,2]"], ["model.config", "each stage"]),
    "num-classes": ([*TINY, "--set=model.config.num_classes=5"], ["model.config", "num_classes"]),
    "model-block": (
        [*TINY, "--set=model.config.block=wide"],
        ["model.config", "basic or bottleneck"],
    ),
    "model-norm": (
        [*TINY, "--set=model.config.norm=layer"],
        ["model.config", "batch, instance or group"],
    ),
    "device": ([*TINY, "--device=nonsense"], ["--device nonsense: no such device"]),
    "device-far": ([*TINY, "--device=cuda:99"], ["--device cuda:99: no such device"]),
    "device-meta": ([*TINY, "--device=meta"], ["--device meta", "cpu"]),
    "data-missing": (
        [*TINY, "--set=data.source=image-folder", "--data=nowhere"],
        ["data.path", "nowhere does not exist", "train/CLASS/"],
    ),
    "data-unwanted": ([*TINY, "--data=."], ["data.path", "digits", "take no path"]),
    "out-exists": ([*TINY, "--out=taken"], ["taken exists", "--out"]),
    "out-in-file": ([*TINY, "--out=file/run"], ["cannot write into file", "Not a directory"]),
    "quiet-verbose": ([*TINY, "--quiet", "--verbose"], ["--quiet or --verbose, not both"]),
    "out-in-proc": ([*TINY, "--out=/proc/run"], ["cannot write into /proc: No such file"]),
    "out-below-proc": ([*TINY, "--out=/proc/a/run"], ["cannot write into /proc/a: No such file"]),
    "lr-range": ([*TINY, "--set=train.lr=1e39"], ["train.lr: must be less than"]),
    "lr-infinite": ([*TINY, "--set=train.lr=inf"], ["train.lr: ", "finite"]),
    "option": ([*TINY, "--pressed"], ["--pressed"]),
    "near-key": ([*TINY, "--set=train.learning_rate=1"], ["unknown key (did you mean lr?)"]),
    "near-rule": ([*TINY, "--set=train.rule=sortd"], ["rule 'sortd' (did you mean sorted?)"]),
    "near-value": ([*TINY, "--set=data.augment=cropp"], ["not 'cropp' (did you mean crop?)"]),
    "near-family": ([*TINY, "--set=model.family=preact_resnt"], ["did you mean preact_resnet?"]),
    "near-source": ([*TINY, "--set=data.source=cifr10"], ["(did you mean cifar10?)"]),
    "near-axis": ([*TINY, "--set=space.widht=[1]"], ["unknown axis (did you mean width?)"]),
    "whose": ([*TINY, "--set=train.lr=x"], ["preset digits-resnet with your --set: the spec is"]),
}


@pytest.mark.parametrize("name", sorted(WRONG_SPECS))
def test_wrong_training(work: Path, name: str) -> None:
    arguments, fragments = WRONG_SPECS[name]
    (work / "taken").mkdir()
    (work / "file").touch()
    before = listing(work)
    refused(command("train", *arguments), 2, *fragments)
    assert listing(work) == before


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("[model", ["mine.toml is not valid TOML"]),
        ("model = 1\nspace = 2", ["mine.toml", "model: ", "space: ", "train: ", "data: "]),
        (
            '[model]\nfamily = "nope"\n[space]\n[train]\nlrr = 1\n[data]\nsorce = "digits"\n',
            ["unknown family 'nope'", "train.lrr: unknown key", "data.sorce: unknown key"],
        ),
        (
            '[model]\nfamily = "preact_resnet"\n[space]\nwidth = [1]\n'
            '[train]\n[data]\nsource = "digits"\n',
            ["train.updates and train.epochs"],
        ),
        ("\udcff", ["cannot read the spec mine.toml"]),
    ],
)
def test_wrong_spec_file(work: Path, text: str, fragments: list[str]) -> None:
    Path("mine.toml").write_text(text, errors="surrogateescape")
    before = listing(work)
    refused(command("train", "--config", "mine.toml"), 2, *fragments)
    assert listing(work) == before


WRONG_REQUESTS = {
    "command": (["evil"], ["no such command 'evil'", "see: sortednet --help"]),
    "command-near": (["trian"], ["no such command 'trian' (did you mean train?)"]),
    "option-near": (["eval", "--widht=1"], ["option '--widht' (did you mean --width?)"]),
    "option-number": (["eval", "--width=half"], ["--width: must be", "not 'half'; see:"]),
    "option-bare": (["eval", "--width"], ["error: option '--width' requires an argument"]),
    "argument-extra": (["eval", "a", "b"], ["got unexpected extra argument", "eval --help"]),
    "cost-near": (["frontier", "--cost=latncy"], ["--cost 'latncy' (did you mean latency?)"]),
    "format-near": (["extract", "--format=onx"], ["--format 'onx' (did you mean onnx?)"]),
    "axis-near": (["eval", "--axis=dept=1"], ["no axis 'dept' here (did you mean depth?)"]),
    "split-near": (["eval", "--split=tset"], ["--split: 'tset' is not one", "did you mean test?"]),
    "preset": (["presets", "show", "digit-resnet"], ["did you mean digits-resnet?"]),
    "preset-unnamed": (["presets", "show"], ["needs a NAME"]),
    "preset-extra": (["presets", "list", "digits-resnet"], ["presets show digits-resnet"]),
    "info-spec": (["info", "--plan", str(RUN / "spec.toml")], ["spec.toml", "--config"]),
    "info-missing": (["info", "nowhere"], ["nowhere", "no such folder"]),
    "info-other": (["info", "."], ["neither a run nor an artifact"]),
    "file-of-weights": (["extract", "file"], ["file is a file", "save_pretrained writes"]),
    "weights-alone": (["extract", "vision"], ["neither a run", "torchvision's, cannot be cut"]),
    "resume-artifact": (["train", "--resume", "cut"], ["cut is an artifact, which cannot be"]),
    "info-axes": (["info", RUN, "--width=1"], ["--plan"]),
    "run-missing": (["eval", "nowhere"], ["nowhere", "no such folder"]),
    "axes-and-all": (["eval", "--all", "--width=1"], ["--all"]),
    "split": (["eval", "--split=best"], ["--split", "validation"]),
    "device": (["eval", "--device=nonsense"], ["--device nonsense: no such device"]),
    "data-missing": (["eval", "--data=nowhere"], ["data.path"]),
    "cost": (["frontier", "--cost=price"], ["--cost 'price'", "params, macs", "latency_ms"]),
    "plot-suffix": (["frontier", "--plot=a.jpg"], ["--plot a.jpg", ".svg, .png or .html"]),
    "plot-folder": (["frontier", "--plot=no/a.svg"], ["--plot no/a.svg", "there is no folder"]),
    "plot-is-folder": (["frontier", "--plot=d.svg"], ["--plot d.svg", "is a folder"]),
    "format": (
        ["extract", "--format=zip"],
        ["--format 'zip'", "safetensors, onnx, onnx-int8, pt2"],
    ),
    "axes-and-budget": (["extract", "--width=1", "--max-params=1M"], ["axes", "budget"]),
    "out-exists": (["extract", "--out=taken"], ["taken exists", "--out"]),
    "out-link": (["extract", "--out=link"], ["link exists", "--out"]),
    "out-in-file": (["extract", "--out=file/a"], ["cannot write into file", "Not a directory"]),
    "out-in-proc": (["extract", "--out=/proc/a"], ["cannot write into /proc: No such file"]),
}


@pytest.mark.parametrize("name", sorted(WRONG_REQUESTS))
def test_wrong_request(home: Path, name: str) -> None:
    arguments, fragments = WRONG_REQUESTS[name]
    (home / "taken").mkdir()
    (home / "d.svg").mkdir()
    (home / "file").touch()
    (home / "link").symlink_to("nowhere")
    for file in ("vision/model.safetensors", "cut/sortednet.json"):
        (home / file).parent.mkdir()
        (home / file).touch()
    before = listing(home)
    refused(command(*arguments), 2, *fragments)
    assert listing(home) == before


@pytest.mark.parametrize("start", [["eval"], ["extract"], ["info", RUN, "--plan"]])
@pytest.mark.parametrize(
    ("axes", "fragments"),
    [
        (["--width=0.75"], ["width 0.75", "legal values are 0.5, 1"]),
        (["--width=nan"], ["width nan", "legal values are 0.5, 1"]),
        (["--depth=9"], ["depth 9", "legal values are 1, 8"]),
        (["--depth=1.5"], ["--depth"]),
        (["--axis=heads=2"], ["no axis 'heads' here; the axes are width, depth"]),
        (["--axis=width"], ["--axis 'width'", "NAME=NUMBER"]),
        (["--axis=width=x"], ["--axis 'width=x'", "NAME=NUMBER"]),
        (["--axis=depth=1.5"], ["depth 1.5", "legal values are 1, 8"]),
        (["--width=1", "--axis=width=0.5"], ["width is given twice"]),
    ],
)
def test_sub_model_outside_the_search_space(
    home: Path, start: list[str | Path], axes: list[str], fragments: list[str]
) -> None:
    before = listing(home)
    refused(command(*start, *axes), 2, *fragments)
    assert listing(home) == before


@pytest.mark.parametrize("name", ["frontier", "extract"])
@pytest.mark.parametrize(
    ("budget", "fragments"),
    [
        (["--max-params=10"], ["no sub-model fits params <= 10", "the smallest has 414"]),
        (["--max-macs=1k"], ["no sub-model fits macs <= 1k", "the smallest has 7.208k"]),
        (["--max-latency-ms=1e-9"], ["no sub-model fits latency_ms", "the smallest has"]),
        (["--max-params=lots"], ["--max-params", "'lots'", "200k"]),
        (["--max-macs=-5"], ["--max-macs", "'-5'", "200k"]),
        (["--max-params=0"], ["--max-params", "'0'"]),
        (["--max-params=1T"], ["--max-params", "'1T'"]),
        (["--max-params=1e999"], ["--max-params", "'1e999'"]),
        (["--max-params="], ["--max-params", "''"]),
        (["--max-latency-ms=0"], ["--max-latency-ms", "'0' is not a positive number of millisec"]),
        (["--max-latency-ms=nan"], ["--max-latency-ms", "'nan' is not a positive number"]),
        (["--max-latency-ms=fast"], ["--max-latency-ms", "'fast' is not a positive number"]),
        (["--max-size-mb=inf"], ["--max-size-mb", "'inf' is not a positive number of megabytes"]),
        (["--max-memory-mb=-1"], ["--max-memory-mb", "'-1' is not a positive number of megabytes"]),
        (["--max-size-mb=1e-3"], ["no sub-model fits size_mb <= 0.001", "the smallest has 0.00"]),
        (["--max-memory-mb=1e-3"], ["no sub-model fits memory_mb <= 0.001; the smallest has"]),
        (
            ["--max-params=10", "--max-latency-ms=1e-9"],
            ["no sub-model fits params <= 10; the smallest has 414"],
        ),
        (
            ["--max-params=1k", "--max-latency-ms=1e-9"],
            ["latency_ms <= 1e-09 together; of the", "within params <= 1k the smallest has"],
        ),
    ],
)
def test_impossible_budget(home: Path, name: str, budget: list[str], fragments: list[str]) -> None:
    before = listing(home)
    refused(command(name, *budget, "--quiet"), 2, *fragments)
    assert listing(home) == before


def test_no_run_at_all(work: Path) -> None:
    for arguments in (["eval"], ["frontier"], ["extract"]):
        refused(command(*arguments), 2, "no finished run under runs/", "sortednet train")
    refused(command("train", "--resume"), 2, "no unfinished run under runs/")
    refused(command("train", "--resume", "nowhere"), 2, "nowhere", "no such folder")
    assert listing(work) == {}


def test_data_that_cannot_be_read(work: Path) -> None:
    (work / "empty").mkdir()
    write_tree(work / "flawed", {**tree_files(), "train/b/bad.png": b"no image"})
    (work / "text.tar").write_text("no tar")
    before = listing(work)
    start = ("train", *TINY, "--set=data.source=image-folder", "--set=train.batch_size=4")
    for data, fragment in {
        "empty": "train/CLASS/",
        "flawed": "train/b/bad.png",
        "text.tar": "text.tar",
    }.items():
        refused(command(*start, "--quiet", "--data", data), 2, fragment)
    assert listing(work) == before


def test_data_with_other_classes_than_the_run(work: Path) -> None:
    write_tree(work / "abc", tree_files(classes="abc"))
    write_tree(work / "abd", tree_files(classes="abd"))
    write_tree(work / "large", tree_files(size=16))
    start = ("train", *TINY, "--set=data.source=image-folder", "--set=train.batch_size=4")
    assert command(*start, "--data=abc", "--quiet").code == 0
    before = listing(work)
    refused(
        command("eval", "--data=abd", "--quiet"),
        2,
        "the classes of abd are not those the model was made for (abc)",
        "only in the data: d",
    )
    refused(command("eval", "--data=large", "--quiet"), 2, "16 pixels wide", "made for 8")
    assert listing(work) == before


def test_two_commands_write_one_run(home: Path) -> None:
    unfinished()
    script = (
        "import os, sys; from pathlib import Path\n"
        "from sortednet_cli.storage.run import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).lock():\n"
        "    print(os.getpid(), flush=True); sys.stdin.read()"
    )
    holder = waiting(script, RUN)
    with holder:
        assert holder.stdout is not None
        number = int(holder.stdout.readline())
        before = listing(home)
        done = command("train", "--resume", RUN)
        refused(done, 2, f"{RUN} is being written by process {number}")
        assert listing(home) == before
        holder.communicate("")
    assert command("train", "--resume", RUN, "--quiet").code == 0


def test_diverging_training(work: Path) -> None:
    done = command("train", *TINY, "--set=train.lr=1e30", "--set=train.updates=20", "--quiet")
    refused(done, 1, "training diverged", "lower train.lr")


def test_diverging_in_its_last_update(work: Path) -> None:
    huge = ("--set=train.lr=1e30", "--set=train.weight_decay=1e30", "--set=train.updates=1")
    done = command("train", *TINY, *huge, "--quiet")
    refused(done, 1, "not finite after update 1: training diverged; lower train.lr")
    assert not list(work.glob("runs/*/checkpoints/step-*"))


def test_custom_factory_must_be_allowed(work: Path) -> None:
    assert command("train", "--config", flat_spec(), "--quiet").code == 0
    before = listing(work)
    for name in (["eval"], ["extract"], ["frontier", "--cost=size"]):
        refused(
            command(*name, "runs/flat", "--quiet"),
            2,
            "tests.pico:FlatNet",
            "--allow-factory tests.pico:FlatNet",
            "SORTEDNET_ALLOW_FACTORY",
        )
        refused(
            command(*name, "runs/flat", "--allow-factory=tests.pico:Other"), 2, "--allow-factory"
        )
    assert listing(work) == before
    done = command("extract", "--allow-factory=tests.pico:FlatNet", "--width=0.5", "--quiet")
    assert (done.code, done.err) == (0, "")
    refused(command("eval", done.out.strip()), 2, "--allow-factory tests.pico:FlatNet")


@pytest.mark.parametrize(
    ("factory", "arguments", "fragments"),
    [
        ("no.such.module:make", None, ["no module for 'no.such.module:make'", "or install it"]),
        ("tests.pico:Missing", None, ["cannot import 'tests.pico:Missing'"]),
        ("broken.py:make", None, ["'broken.py:make': write broken:make, without .py"]),
        ("tests.pico", None, ["factory", "package.module:function"]),
        ("builtins:dict", None, ["builtins:dict returned 'dict' instead of an nn.Module"]),
        ("tests.pico:FlatNet", "hidden = 8", ["tests.pico:FlatNet refused its arguments"]),
        ("tests.pico:FlatNet", "layers = 1", ["axes.width.scales: 'hidden' is no key"]),
        ("tests.pico:FlatNet", 'hidden = 8, layers = "x", num_classes = 3', ["tests.pico:FlatNet"]),
        ("broken:make", None, ["cannot import 'broken:make': broken"]),
    ],
)
def test_wrong_custom_factory(
    work: Path, factory: str, arguments: str | None, fragments: list[str]
) -> None:
    spec = flat_spec(factory, arguments)
    Path("broken.py").write_text("raise ValueError('broken')\n")
    before = listing(work)
    refused(command("train", "--config", spec, "--quiet"), 2, *fragments)
    assert {name for name in listing(work) if "__pycache__" not in name} == set(before)
