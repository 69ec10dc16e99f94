from __future__ import annotations

from typing import Any

import pytest

from bonemonai.sharing.config_entries import config_entries
from bonemonai.sharing.runner_check import check_runners

RUN: dict[str, Any] = {"_target_": "bonemonai.engines.CrossValidation", "options": "@options", "train": ["@config"]}


def found(config: Any, **others: Any) -> list[tuple[str, str]]:
    entries = config_entries({"a.json": config, **others})
    return [(entry.id, str(error)) for entry, error in check_runners(entries)]


@pytest.mark.parametrize(
    ("config", "place", "reason"),
    [
        ({"run": RUN, "options": "$dict([('_tar' + 'get_', 'os.system')])"}, "options", "makes up names"),
        ({"run": RUN, "options": "${'_tar' + 'get_': 'os.system'}"}, "options", "makes up names"),
        ({"run": RUN, "options": "${name: 1 for name in @a}"}, "options", "makes up names"),
        ({"run": RUN, "options": "$dict(zip(@a, @b))"}, "options", "makes up names|calls zip"),
        ({"run": RUN, "options": "$monai.transforms.CopyItemsd('a', 1, @b)(@c)"}, "options", "calls monai"),
        ({"run": RUN, "options": {"a": {"b": "@c"}}, "c": "$@d.lower()"}, "c", "calls __local_refs"),
        ({"run": RUN, "options": {"a": {"_target_": "Compose"}}}, "options::a", "is a component"),
        ({"run": RUN, "config": "$'a'.join(@b)"}, "config", "calls 'a'.join"),
        ({"run": {**RUN, "options": {"a": "@####evil"}}, "evil": "$'a'.upper()"}, "run::options::a", "above"),
        ({"run": {**RUN, "options": {"a": "@###evil"}}, "evil": "$'a'.upper()"}, "evil", "calls 'a'.upper"),
        ({"run": RUN, "options": "@_meta_#evil", "evil": "$'a'.upper()"}, "evil", "calls 'a'.upper"),
        ({"run": RUN, "config": "evil.json"}, "config", "only those in configs"),
        ({"run": RUN, "config": "data/evil"}, "config", "only those in configs"),
        ({"run": RUN, "config": "$str(pathlib.Path(@dataset_dir) / 'x.json')"}, "config", "only those in configs"),
        ({"run": RUN, "config": "$str(pathlib.Path(@bundle_root) / 'eval' / 'x.json')"}, "config", "only those in"),
        ({"run": RUN, "config": "$@bundle_root + '/eval/x.json'"}, "config", "only those in configs"),
        ({"run": RUN, "config": "$str(pathlib.Path(@bundle_root))", "bundle_root": "x/y"}, "bundle_root", "only those"),
        (
            {
                "run": RUN,
                "config": "a",
                "options": "$bonemonai.engines.stored_option(@card, 'x', 0)",
                "card": "/data/x",
            },
            "card",
            "only those in models",
        ),
        ({"run": RUN, "options": "$bonemonai.engines.stored_option(str(@card), 'x', 0)"}, "options", "of some file"),
        ({"run": {**RUN, "options": "%other"}, "other": 1}, "run::options", "copies a value"),
        ({"runs": [RUN], "options": "$exec('1')"}, "options", "calls exec"),
    ],
)
def test_options_that_are_made_up_are_found(config: Any, place: str, reason: str) -> None:
    reasons = dict(found(config))
    assert place in reasons
    assert any(word in reasons[place] for word in reason.split("|"))


def test_an_overlays_options_are_followed() -> None:
    assert found({"run": RUN}, **{"b.json": {"run#options": "$str(@x).upper()"}}) != []
    assert found({"run": RUN, "options": {}}, **{"b.json": {"options": "$str(@x).upper()"}}) != []


def test_values_that_stand_in_configs_pass() -> None:
    config = {
        "run": {**RUN, "options": "$dict({'a': 1}, **@options, seed=@seed, b=len(@names))"},
        "options": {"max_epochs": 3},
        "names": ["train", "smoke"],
        "model": "$bonemonai.engines.stored_option(@weights, 'model', 'cnn')",
        "weights": "$str(pathlib.Path(@bundle_root) / 'models' / f'{@seed}.pt')",
        "seed": 3,
        "all": "$@names + [@model]",
        "config": "$[str(pathlib.Path(@bundle_root) / 'configs' / (name + '.json')) for name in @all if name]",
        "bundle_root": "$bonemonai.engines.find_bundle_root()",
        "loop": "@loop",
    }
    assert found(config) == []
    assert found({"x": {"_target_": "Compose", "options": "$exec('1')"}}) == []
