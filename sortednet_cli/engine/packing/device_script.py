"""Measure the latency of the models in this folder on this device, and write one JSON file.

Needed are Python 3.9 or newer and the models' runtime, such as `pip install onnxruntime`. Copy the
whole folder to the device, and call there:

    python measure.py --threads 4 --device "name of the device" --out phone.json

The file is written anew after each model, so an interrupted run continues where it was when it is
called again with the same options. At home, `sortednet frontier RUN --cost latency --latencies
phone.json` weighs these latencies against scores.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

FORMAT = 1
"""Layout of the JSON file that is written."""

Pass = Callable[[], object]
"""One forward pass."""

Inputs = dict[str, Any]
"""Arrays by the names of a model's inputs."""


class Refused(Exception):
    """The request is wrong, or something is missing; shown as one message."""


def main(arguments: list[str]) -> int:
    """Measure what the output file lacks; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return _measure_all(options)
    except KeyboardInterrupt:
        _say("interrupted: call it again with the same options to continue")
        return 130
    except Refused as refusal:
        _say(f"error: {refusal}")
        return 2


def _measure_all(options: argparse.Namespace) -> int:
    folder = Path(__file__).resolve().parent
    pack = _read(folder / "pack.json")
    runtime = RUNTIMES[pack["runtime"]]
    module = _imported(runtime)
    header = {
        "format": FORMAT,
        "run": pack["run"],
        "digest": pack["digest"],
        "conditions": {
            "runtime": f"{pack['runtime']} {_version(runtime, module)}",
            "file_format": pack["file_format"],
            "batch_size": options.batch_size,
            "threads": options.threads,
            "device": options.device,
        },
        "warmup": options.warmup,
        "repeats": options.repeats,
    }
    out = Path(options.out)
    latencies = _measured(out, header)
    inputs = _inputs(pack["inputs"], options.batch_size)
    for number, (model, file) in enumerate(pack["models"].items(), 1):
        if model not in latencies:
            try:
                one_pass = runtime.open(module, folder / file, inputs, options.threads)
                latencies[model] = _median_ms(one_pass, options.warmup, options.repeats)
            except Exception as error:
                _say(f"error: {file} does not run: {str(error).strip() or type(error).__name__}")
                return 1
            _write(out, {**header, "latency_ms": latencies})
        _say(f"{number}/{len(pack['models'])}  {model}  {latencies[model]:.4g} ms")
    sys.stdout.write(f"{out}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    usable = getattr(os, "sched_getaffinity", None)
    threads = len(usable(0)) if usable else os.cpu_count() or 1
    device = " ".join(filter(None, (platform.system(), platform.machine(), platform.processor())))
    parser = argparse.ArgumentParser(
        description="Measure the latency of the models in this folder on this device.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", default="latencies.json", help="JSON file to write or to continue")
    parser.add_argument(
        "--device", type=_name, default=device, help="name of this device, for the JSON file"
    )
    parser.add_argument("--threads", type=_positive, default=threads, help="threads of a pass")
    parser.add_argument("--batch-size", type=_positive, default=1, help="samples of a pass")
    parser.add_argument("--warmup", type=_positive, default=5, help="passes that are not timed")
    parser.add_argument("--repeats", type=_positive, default=25, help="passes that are timed")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)


def _name(text: str) -> str:
    if not 0 < len(text) <= 200:
        raise argparse.ArgumentTypeError("a name has 1 to 200 characters")
    return text


def _median_ms(one_pass: Pass, warmup: int, repeats: int) -> float:
    """Return the median time of a pass, in milliseconds."""
    for _ in range(warmup):
        one_pass()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        one_pass()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


# Runtimes


def _open_onnxruntime(runtime: Any, file: Path, inputs: Inputs, threads: int) -> Pass:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, inputs)


def _open_openvino(runtime: Any, file: Path, inputs: Inputs, threads: int) -> Pass:
    # By default it computes in bfloat16 where the processor can.
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = runtime.Core().compile_model(str(file), "CPU", settings).create_infer_request()
    return lambda: request.infer(inputs)


def _open_litert(runtime: Any, file: Path, inputs: Inputs, threads: int) -> Pass:
    interpreter = runtime.Interpreter(model_path=str(file), num_threads=threads)
    interpreter.allocate_tensors()
    (described,), (values,) = interpreter.get_input_details(), inputs.values()
    interpreter.set_tensor(described["index"], values)

    def one_pass() -> object:
        return interpreter.invoke()

    return one_pass


class Runtime(NamedTuple):
    """What opens a model's file, and the package and module that it needs."""

    package: str
    module: str
    open: Callable[[Any, Path, Inputs, int], Pass]


RUNTIMES = {
    "onnxruntime": Runtime("onnxruntime", "onnxruntime", _open_onnxruntime),
    "openvino": Runtime("openvino", "openvino", _open_openvino),
    "litert": Runtime("ai-edge-litert", "ai_edge_litert.interpreter", _open_litert),
}


def _imported(runtime: Runtime) -> Any:
    try:
        return importlib.import_module(runtime.module)
    except ImportError as error:
        package = runtime.package
        raise Refused(f"the models need {package}: pip install {package} ({error})") from None


def _version(runtime: Runtime, module: Any) -> str:
    try:
        return version(runtime.package)
    except PackageNotFoundError:  # another package has the module, such as onnxruntime-gpu
        return str(getattr(module, "__version__", "of unknown version"))


def _inputs(described: list[dict[str, Any]], batch_size: int) -> Inputs:
    """Make the inputs of one pass: noise, or copies of the sample that the pack holds."""
    import numpy

    noise, inputs = numpy.random.default_rng(0), {}
    for each in described:
        shape = (batch_size, *each["shape"])
        if each["sample"] is None:
            values = noise.standard_normal(shape)
        else:
            values = numpy.broadcast_to(numpy.array(each["sample"]), shape)
        inputs[each["name"]] = numpy.ascontiguousarray(values, dtype=each["dtype"])
    return inputs


# Files


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Refused(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError:
        raise Refused(f"{path} is damaged: it is not JSON") from None


def _measured(out: Path, header: dict[str, Any]) -> dict[str, float]:
    """Return the latencies that the output file has; refuse one of something else."""
    if not out.exists():
        if not out.absolute().parent.is_dir():
            raise Refused(f"--out {out}: there is no such folder")
        return {}
    found = _read(out)
    latencies = found.pop("latency_ms", None) if isinstance(found, dict) else None
    if found != header or not isinstance(latencies, dict):
        raise Refused(
            f"{out} exists and was measured with other models or options: choose another --out"
        )
    return latencies


def _write(path: Path, value: Any) -> None:
    """Write a file beside the final one, then replace that: it is never half-written."""
    staging = path.with_name(path.name + ".part")
    try:
        staging.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
        staging.replace(path)
    except OSError as error:
        raise Refused(f"cannot write {path}: {error.strerror or error}") from None


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
