"""Wrong requests are told before torch is imported: importing it takes seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.cli.test_bad_input import edit
from tests.cli.test_shell import HEAVY
from tests.commands import TINY, environment, listing

RUN = "runs/digits-resnet"
LLAMA = "--preset=shakespeare-llama"

REQUESTS: list[tuple[list[str], str]] = [
    (["eval", "/no/such/run"], "no run at /no/such/run: there is no such folder"),
    (["eval", "begun"], "begun has no finished weights yet"),
    (["eval", "damaged"], "spec.toml is damaged"),
    (["eval", RUN, "--width=0.3"], "width 0.3 is not in the search space; legal values are 0.5, 1"),
    (["eval", RUN, "--depth=9"], "depth 9 is not in the search space; legal values are 1, 8"),
    (["eval", RUN, "--axis=heads=2"], "no axis 'heads' here; the axes are width, depth"),
    (["eval", RUN, "--all", "--width=1"], "--all scores every sub-model"),
    (["eval", RUN, "--data=nowhere"], "data.path (or --data): the digits"),
    (["eval", "stock", "--data=nowhere"], "nowhere does not exist"),
    (["eval", "stock"], "needs --data PATH"),
    (["frontier", RUN, "--max-params=10"], "no sub-model fits params <= 10; the smallest has"),
    (["frontier", RUN, "--max-macs=-1"], "--max-macs"),
    (["frontier", RUN, "--max-size-mb=0"], "--max-size-mb: '0' is not a positive number"),
    (
        ["frontier", RUN, "--max-params=10", "--max-latency-ms=1"],
        "fits params <= 10; the smallest has",
    ),
    (["frontier", RUN, "--cost=price"], "the costs are params, macs, size_mb"),
    (["frontier", RUN, "--min-score=90"], "--min-score 90: accuracy is a number from 0 to 1"),
    (["eval", RUN, "--min-score=90"], "--min-score 90: accuracy is a number from 0 to 1"),
    (["eval", RUN, "--junit=no/a.xml"], "--junit no/a.xml: there is no folder"),
    (["eval", RUN, "--harness=pick"], "only models for causal-lm or answers generate text"),
    (["eval", RUN, "--harness=pick", "--harness-path=no"], "--harness-path no: there is no such"),
    (["eval", RUN, "--harness=no.yaml"], "--harness no.yaml: there is no such file"),
    (["eval", RUN, "--harness-limit=3"], "--harness-limit needs --harness TASK"),
    (["train", *TINY, "--set=train.trackers=['wandbb']"], "did you mean wandb?"),
    (["frontier", "stock"], "name a sub-model by --width and --depth"),
    (["frontier", RUN, "--plot=no/a.svg"], "there is no folder"),
    (["extract", RUN, "--max-macs=1k"], "no sub-model fits macs <= 1k; the smallest has"),
    (["extract", RUN, "--width=0.75"], "legal values are 0.5, 1"),
    (["extract", RUN, "--out=taken"], "taken exists"),
    (["extract", RUN, "--out=file/cut"], "cannot write into file: Not a directory"),
    (["extract", "stock", "--format=coreml"], "--format coreml is for image models"),
    (["extract", RUN, "--format=torchao-int8"], "--format torchao-int8 is for text models"),
    (["extract", "stock", "--format=onnx-int8"], "needs --data PATH"),
    (["extract", RUN, "--format=zip"], "the formats are safetensors, onnx, onnx-int8, pt2"),
    (["extract", RUN, "--max-memory-mb=1", "--max-macs=1k"], "fits macs <= 1k; the smallest has"),
    (["extract", RUN, "--max-shard-size=many"], "--max-shard-size"),
    (["extract", "stock", "--max-params=1M"], "stock has no scores"),
    (["frontier", RUN, "--runtime=onnx"], "did you mean onnxruntime?"),
    (["frontier", RUN, "--runtime=torch"], "the request takes no latencies"),
    (["frontier", RUN, "--cost=latency", "--latencies=no.json"], "cannot read no.json"),
    (["extract", RUN, "--max-latency-ms=5", f"--latencies={RUN}/run.json"], "run.json is damaged"),
    (["extract", RUN, "--max-latency-ms=0", "--format=onnx"], "--max-latency-ms: '0' is not"),
    (["bench-pack", "nowhere"], "no run at nowhere"),
    (["bench-pack", RUN, "--format=pt2"], "the script of a bench pack runs onnxruntime"),
    (["bench-pack", RUN, "--max-total-size=1k"], "the weights of 4 sub-models have"),
    (["bench-pack", "stock"], "stock has no scores"),
    (["report", "begun"], "begun has no finished weights yet"),
    (["report", "stock"], "name a sub-model by --width and --depth"),
    (["report", RUN, RUN], "is given twice"),
    (["report", RUN, "--cost=price"], "the costs are params, macs, size_mb"),
    (["report", RUN, "--out=taken"], "the name must end in .html"),
    (["push", RUN, "me/x"], "is a run, of which one sub-model can be pushed"),
    (["push", "nowhere", "me/x"], "no artifact at nowhere"),
    (["push", "nowhere", "x"], "write it as user/name"),
    (["generate", RUN, "--prompt=x"], "runs/digits-resnet is for classification"),
    (["generate", RUN, "--calibrate"], "runs/digits-resnet is for classification"),
    (["generate", "nowhere", "--prompt-file=nowhere.txt"], "cannot read nowhere.txt"),
    (["generate", "nowhere", "--prompt=x"], "no run at nowhere"),
    (["serve", RUN, "--port=-1"], "--port must be from 0 to 65535"),
    (["serve", "nowhere"], "no run at nowhere"),
    (["serve", RUN, "--host=nowhere.invalid"], "--host nowhere.invalid"),
    (["info", "nowhere"], "no run at nowhere"),
    (["info", RUN, "--plan", "--depth=3"], "legal values are 1, 8"),
    (
        ["info", "--plan", *TINY, "--set=train.draws=9"],
        "train.draws = 9: the search space has only",
    ),
    (["presets", "show", "digit-resnet"], "did you mean digits-resnet?"),
    (["completion", "tcsh"], "'tcsh' is not one of"),
    (["train", "--preset=digit-resnet"], "did you mean digits-resnet?"),
    (["train", *TINY, "--set=train.lr=fast"], "train.lr: must be a number"),
    (["train", *TINY, "--set=train.rule=single", "--set=train.submodel=w9"], "no sub-model 'w9'"),
    (["train", *TINY, "--set=data.source=image-folder"], 'image-folder" needs --data PATH'),
    (["train", *TINY, "--set=data.source=image-folder", "--data=no"], "no does not exist"),
    (["train", LLAMA, "--data=no.csv"], "no.csv does not exist"),
    (
        ["train", LLAMA, "--data=.", "--set=model.pretrained=./no"],
        "there is no file or folder ./no",
    ),
    (["train", *TINY, "--out=taken"], "taken exists"),
    (["train", "--config=no.toml"], "no.toml"),
    (["init", "mobilenet_v2", "--out=taken"], "--out taken: name a file"),
    (["init", "mobilenet_v2", "--data=nowhere"], "--data nowhere: there is no such file"),
    (["train", "--resume", "nowhere"], "no run at nowhere"),
    (["train", "--resume", "begun"], "moved-away does not exist"),
    (["train", "--resume", RUN], "train it anew with: sortednet train --config runs/"),
]

SCRIPT = """
import contextlib, io, json, sys
from sortednet_cli.cli.main import run
for arguments in json.loads(sys.argv[1]):
    with contextlib.redirect_stderr(io.StringIO()) as talk:
        code = run(arguments)
    print(json.dumps([code, talk.getvalue(), sorted(sys.modules)]))
"""


def test_wrong_requests_import_nothing_heavy(home: Path) -> None:
    (home / "taken").mkdir()
    (home / "file").touch()
    _stock(home / "stock")
    _begun(home / "begun", home / RUN)
    damaged = _copied(home / "damaged", home / RUN)
    (damaged / "spec.toml").write_text("name = 'another'\n")
    before = listing(home)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps([arguments for arguments, _ in REQUESTS])],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    for (arguments, fragment), (code, said, modules) in zip(REQUESTS, answers, strict=True):
        assert code == 2, (arguments, said)
        assert fragment in said, (arguments, said)
        assert said.lower().count("error:") == 1, said
        assert not {*HEAVY, "triton"} & set(modules), arguments
    assert listing(home) == before


RECORDED = [
    ["completion", "bash"],
    ["info", RUN],
    ["frontier", RUN],
    ["frontier", RUN, "--all", "--json"],
    ["frontier", RUN, "--min-score=0", "--junit=a.xml"],
    ["frontier", RUN, "--cost=params", "--max-macs=1G", "--max-params=1G", "--plot=a.svg"],
]


def test_what_is_recorded_is_shown_without_torch(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(RECORDED)],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[0, ")]
    assert len(answers) == len(RECORDED), done
    for _, said, modules in answers:
        assert not {"torch", "torchvision"} & set(modules), said


def _stock(folder: Path) -> None:
    folder.mkdir()
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    (folder / "model.safetensors").touch()


def _copied(folder: Path, run: Path) -> Path:
    folder.mkdir()
    for name in ("run.json", "spec.toml", "frontier.json"):
        (folder / name).write_bytes((run / name).read_bytes())
    return folder


def _begun(folder: Path, run: Path) -> None:
    """A run that was stopped, and whose images have been moved away."""
    spec = _copied(folder, run) / "spec.toml"
    moved = 'source = "image-folder"\npath = "moved-away"'
    spec.write_text(spec.read_text().replace('source = "digits"', moved))
    edit(folder / "run.json", "state", value="training")
