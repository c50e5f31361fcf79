"""What a training builds before and after its updates: nothing twice."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import nn

from sortednet_cli.engine.training.events import Finished
from sortednet_cli.engine.training.start import create_session
from sortednet_cli.families import Config
from sortednet_cli.families.preact_resnet import PreActResNetFamily
from sortednet_cli.space import SearchSpace
from sortednet_cli.spec import load_preset


def test_a_training_builds_one_skeleton_for_each_sub_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For its checks, its plan, its costs and its module; the root network has some more."""
    built: Counter[str] = Counter()
    construct = PreActResNetFamily.construct

    def counted(family: PreActResNetFamily, config: Config) -> nn.Module:
        if torch.empty(0).is_meta:
            built[json.dumps(config)] += 1
        return construct(family, config)

    monkeypatch.setattr(PreActResNetFamily, "construct", counted)
    settings = ["model.config.channels=[8]", "space.width=[0.25,0.5,1.0]", "train.updates=2"]
    spec = load_preset("digits-resnet", [*settings, "train.channels_last=true"])
    session = create_session(tmp_path / "run", spec, torch.device("cpu"))
    family, space = session.family, SearchSpace.of(spec.space)
    configs = [json.dumps(family.shrink(submodel)) for submodel in space.submodels]
    assert all(built[config] == 1 for config in configs[:-1])
    finished = list(session.events())[-1]
    assert isinstance(finished, Finished)
    assert len(finished.rows) == len(space) > 6
    assert all(built[config] == 1 for config in configs[:-1])
    assert built.keys() == set(configs)
    assert built[configs[-1]] <= 4
