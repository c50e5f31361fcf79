"""`sortednet generate` as its users type it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from sortednet_cli.engine.generation.causal import _halve
from sortednet_cli.errors import RequestError
from tests.commands import command, refused, shell

PICO = (
    "--preset=pydoc-llama",
    "--set=train.updates=3",
    "--set=train.batch_size=4",
    "--set=model.config.hidden_size=16",
    "--set=model.config.num_hidden_layers=3",
    "--set=model.config.intermediate_size=32",
    "--set=space.depth=[1,2,3]",
    "--set=data.vocab_size=400",
    "--set=data.max_length=48",
    "--set=data.validation=0.03",
    "--set=data.test=0.03",
)
RUN = "runs/pydoc-llama"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generate") / "run"
    done = command("train", *PICO, "--quiet", "--out", folder)
    assert (done.code, done.err) == (0, ""), done
    return folder


@pytest.fixture
def run(work: Path, made: Path) -> Path:
    shutil.copytree(made, work / RUN)
    return work / RUN


def test_every_mode_from_a_run_and_from_its_artifact(run: Path) -> None:
    refused(
        command("generate", "--prompt", "The with", "--mode", "early-exit"),
        2,
        f"no thresholds for d3; run `sortednet generate --calibrate {RUN} --depth 3` first",
    )
    done = command("generate", "--calibrate", "--agreement", "0.5")
    assert done.code == 0, done
    assert "through all layers" in done.out
    assert set(json.loads((run / "decoding.json").read_text())["submodels"]) == {"d3"}
    assert command("extract", "--quiet").out == "artifacts/pydoc-llama-d3\n"
    texts = {}
    for source in (RUN, "artifacts/pydoc-llama-d3"):
        for mode in ("greedy", "speculative", "early-exit"):
            done = command(
                "generate", source, "--prompt", "The with", "--mode", mode, "--max-new-tokens=12"
            )
            assert done.code == 0, done
            assert "12 tokens in" in done.err
            texts[source, mode] = done.out
    for source in (RUN, "artifacts/pydoc-llama-d3"):
        assert texts[source, "speculative"] == texts[source, "greedy"]
    for mode in ("greedy", "early-exit"):
        assert texts[RUN, mode] == texts["artifacts/pydoc-llama-d3", mode]


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_weights_of_half_the_size(run: Path, precision: str) -> None:
    """The text begins as in float32; rounding may change it later."""
    words = ("generate", RUN, "--prompt=The with", "--max-new-tokens=12", "--json")
    whole = json.loads(command(*words).out)["completions"][0]["text"]
    for mode in ("greedy", "speculative"):
        done = command(*words, "--precision", precision, "--mode", mode)
        completion = json.loads(done.out)["completions"][0]
        assert completion["tokens"] == 12
        assert completion["text"][:3] == whole[:3]


def test_float16_refuses_weights_that_it_cannot_hold() -> None:
    module = torch.nn.Linear(2, 2)
    module.weight.data[0, 0] = 1e5
    with pytest.raises(RequestError, match="weight has an entry above 65504: take bf16 or fp32"):
        _halve(module, torch.float16)
    _halve(module, torch.bfloat16)
    assert module.weight.dtype == torch.bfloat16


def test_json_and_statistics(run: Path) -> None:
    done = command(
        "generate", "--prompt=a", "--json", "--mode=speculative", "--draft-depth=1",
        "--draft-length=2", "--max-new-tokens=7",
    )  # fmt: skip
    document = json.loads(done.out)
    assert document["submodel"] == "d3"
    assert document["completions"][0]["finish"] == "length"
    assert document["completions"][0]["tokens"] == document["statistics"]["tokens"] == 7
    assert document["statistics"]["drafted"] >= document["statistics"]["accepted"]
    assert set(document["statistics"]["rounds"]) <= {"depth 1", "none"}


def test_drafts_are_looked_up(run: Path) -> None:
    """Alone on request, and by default also where no layers can draft."""
    start = ("generate", "--prompt=the a the a the", "--json", "--max-new-tokens=12")
    looked_up = ("--mode=speculative", "--draft-depth=0", "--draft-length=3")
    for depth, how in (("3", looked_up), ("1", ("--mode=speculative",))):
        found = json.loads(command(*start, f"--depth={depth}", *how).out)
        wanted = json.loads(command(*start, f"--depth={depth}").out)
        assert found["completions"] == wanted["completions"]
        assert set(found["statistics"]["rounds"]) <= {"look-up", "none"}
        assert sum(found["statistics"]["rounds"].values()) == found["statistics"]["passes"]


def test_transformers_continues_a_prompt_as_it_was_trained(run: Path) -> None:
    """The artifact's own tokenizer puts before a prompt what a training text begins with."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = command("extract", "--quiet").out.strip()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokens = tokenizer("The with", return_tensors="pt", return_token_type_ids=False)
    found = model.generate(**tokens, max_new_tokens=12, do_sample=False)[0]
    text = tokenizer.decode(found[tokens["input_ids"].shape[1] :], skip_special_tokens=True)
    assert (
        command("generate", folder, "--prompt=The with", "--max-new-tokens=12").out == f"{text}\n"
    )


def test_drawing_repeats_by_its_seed(run: Path) -> None:
    def drawn(seed: int, mode: str = "greedy", *more: str) -> str:
        start = ("generate", "--prompt=a", f"--seed={seed}", "--temperature=2", f"--mode={mode}")
        return command(*start, *more).out

    assert drawn(1) == drawn(1) != drawn(2)
    # Whatever drafts: measured times decide it here, and differ each time.
    assert drawn(1, "speculative") == drawn(1)
    assert drawn(2, "speculative", "--draft-depth=2", "--draft-length=3") == drawn(2)


def test_a_shallower_submodel_and_a_stop_string(run: Path) -> None:
    whole = command("generate", "--prompt=The", "--depth=1", "--max-new-tokens=20").out
    assert len(whole) > 3
    stop = whole[2]
    done = command("generate", "--prompt=The", "--depth=1", "--stop", stop, "--json")
    answer = json.loads(done.out)["completions"][0]
    assert answer["text"] == whole[: whole.index(stop)]
    assert answer["finish"] == "stop"


def test_prompts_from_pipes_and_files(run: Path) -> None:
    Path("prompts.txt").write_text("The with statement\nAn if\n")
    script = "sortednet generate --max-new-tokens 5 --json --quiet"
    piped = shell(f"cat prompts.txt | {script}")
    assert piped.code == 0, piped
    assert piped.err == ""
    answers = json.loads(piped.out)["completions"]
    assert [answer["prompt"] for answer in answers] == ["The with statement", "An if"]
    filed = shell(f"{script} --prompt-file prompts.txt")
    assert json.loads(filed.out)["completions"] == answers
    marked = shell(f"(printf '\\357\\273\\277'; cat prompts.txt) | {script}")
    assert json.loads(marked.out)["completions"] == answers


def test_a_closed_pipe_ends_quietly(run: Path) -> None:
    Path("prompts.txt").write_text("The with statement\n" * 300)
    done = shell("sortednet generate -q --prompt-file prompts.txt --temperature=1 | head -1 > line")
    assert (done.code, done.err) == (0, ""), done


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["--prompt="], ["the prompt is empty"]),
        (["--prompt=   "], ["the prompt is empty"]),
        (["--prompt=a", "--max-new-tokens=0"], ["--max-new-tokens must be at least 1, not 0"]),
        (["--prompt=" + "word " * 300], ["tokens", "more than the 47"]),
        (["--prompt=a", "--mode=speculative", "--draft-depth=7"], ["not trained", "1, 2"]),
        (
            ["--prompt=a", "--mode=speculative", "--draft-depth=x"],
            ["must be auto or a whole number"],
        ),
        (
            ["--prompt=a", "--mode=speculative", "--depth=1", "--draft-depth=1"],
            ["no layers can draft", "draft depth 0"],
        ),
        (["--prompt=a", "--draft-depth=1"], ["only for --mode speculative"]),
        (["--prompt=a", "--mode=speculative", "--draft-length=2"], ["needs --draft-depth D"]),
        (["--prompt=a", "--top-p=0.5"], ["give --temperature"]),
        (["--prompt=a", "--temperature=0"], ["--temperature must be positive"]),
        (["--prompt=a", "--temperature=1", "--top-p=0"], ["--top-p must be above 0"]),
        (["--prompt=a", "--stop="], ["--stop needs a text"]),
        (["--prompt=a\udcff"], ["the prompt is not valid UTF-8"]),
        (["--prompt=a", "--stop=\udcff"], ["--stop: not valid UTF-8"]),
        (["--prompt=a", "--prompt-file=b"], ["not both"]),
        (["--prompt-file=nowhere"], ["cannot read nowhere"]),
        (["--calibrate", "--prompt=a"], ["remove --prompt"]),
        (
            ["--calibrate", "--precision=bf16", "--chat", "--stop=a"],
            ["writes no text: remove --chat, --stop, --precision"],
        ),
        (["--calibrate", "--agreement=2"], ["--agreement must be above 0 and at most 1"]),
        (["--calibrate", "--depth=1"], ["d1 has no trained exit"]),
        (["--prompt=a", "--agreement=0.9"], ["only for --calibrate"]),
        (["--prompt=a", "--depth=9"], ["depth"]),
        (["--prompt=a", "--mode=x"], ["--mode: 'x' is not one of 'greedy', 'early-exit'"]),
    ],
)
def test_wrong_requests(run: Path, arguments: list[str], fragments: list[str]) -> None:
    refused(command("generate", *arguments), 2, *fragments)
    assert not (run / "decoding.json").exists()


def test_wrong_bytes_and_empty_lines_are_named(run: Path) -> None:
    refused(shell("printf 'ok\\n\\xff\\n' | sortednet generate -q"), 2, "line 2: not valid UTF-8")
    refused(
        shell("printf 'ok\\n\\nb\\n' | sortednet generate -q"), 2, "line 2: the prompt is empty"
    )
    long = shell("(echo ok; yes word | head -300 | tr '\\n' ' ') | sortednet generate -q")
    refused(long, 2, "prompt 2: the prompt has")


def test_a_model_of_images_is_refused(home: Path) -> None:
    refused(command("generate", "--prompt=a"), 2, "is for classification", "causal-lm or answers")
    refused(command("generate", "--calibrate"), 2, "is for classification")


def test_damaged_thresholds_are_refused(run: Path) -> None:
    (run / "decoding.json").write_text('{"submodels": {"d3": {"exits": 3}}}')
    refused(command("generate", "--prompt=a", "--mode=early-exit"), 2, "decoding.json")


def test_a_cpu_has_no_graphs_to_replay(run: Path) -> None:
    """Which is said at once, if they are asked for."""
    words = ("generate", RUN, "--prompt=The with", "--max-new-tokens=4", "--device=cpu")
    refused(
        command(*words, "--cuda-graphs=true"), 2, "--cuda-graphs true: --device cpu has no CUDA"
    )
    texts = [command(*words, "--cuda-graphs", choice).out for choice in ("auto", "false")]
    assert texts[0] == texts[1] != ""


@pytest.mark.usefixtures("run")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own parts
def test_compiled_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ("generate", "--quiet", "--prompt", "The with", "--max-new-tokens", "20")
    torch._dynamo.reset()
    done = command(*asked, "--compile")
    assert done.code == 0, done.err
    assert done == command(*asked)
    monkeypatch.setenv("CXX", "no-such-compiler")
    torch._dynamo.reset()
    with torch._inductor.config.patch(
        {"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}
    ):
        refused(command(*asked, "--compile"), 1, "--compile", "generate without it")


@pytest.mark.usefixtures("run")
def test_processors_do_not_share_compiled_code(work: Path) -> None:
    """One has longer vectors than the other; the compiler's cache is on a disk that both see."""
    script = "sortednet generate -q --prompt 'The with' --max-new-tokens 20"
    wanted = shell(script)
    for capability in ("avx512", "avx2"):
        done = shell(
            f"{script} --compile",
            fresh=True,
            ATEN_CPU_CAPABILITY=capability,
            TORCHINDUCTOR_CACHE_DIR=str(work / "cache"),
        )
        assert (done.code, done.out) == (0, wanted.out), done.err
