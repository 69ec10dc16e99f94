from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine

from bonemonai.engines import SaveBestWeights, SaveLastWeights, load_weights, require_card, stored_option, weights_card
from bonemonai.errors import InputError, NumericalError, OutputError
from bonemonai.networks import LacunaUNet


def network(value: float = 0.0, width: int = 2) -> LacunaUNet:
    result = LacunaUNet(width=width)
    for parameter in result.parameters():
        torch.nn.init.constant_(parameter, value)
    return result


def test_keeps_the_best_epoch_and_says_what_it_is(tmp_path: Path) -> None:
    path, model = tmp_path / "models" / "model.pt", network()
    handler = SaveBestWeights(model, path, {"data": "phantom"})
    engine = Engine(lambda engine, batch: None)
    engine.state.key_metric_name = "dsc"
    handler.attach(engine)
    for epoch, score in enumerate((0.2, 0.7, 0.5), start=1):
        for parameter in model.parameters():
            torch.nn.init.constant_(parameter, score)
        engine.state.metrics = {"dsc": score}
        engine.state.epoch = epoch
        handler(engine)
    loaded = load_weights(network(), path)
    assert all((p == pytest.approx(0.7)) for p in loaded.head.weight.flatten().tolist())
    card = weights_card(path)
    assert (card["epoch"], card["dsc"], card["trained_on"]) == (2, 0.7, {"data": "phantom"})
    assert sorted(file.name for file in path.parent.iterdir()) == ["model.json", "model.pt"]


def test_epochs_that_do_not_count_are_never_the_best(tmp_path: Path) -> None:
    path, counts = tmp_path / "model.pt", iter([False, True, True])
    handler = SaveBestWeights(network(), path, {}, counts=lambda: next(counts))
    engine = Engine(lambda engine, batch: None)
    engine.state.key_metric_name = "dsc"
    for epoch, score in enumerate((0.9, 0.5, 0.4), start=1):
        engine.state.metrics, engine.state.epoch = {"dsc": score}, epoch
        handler(engine)
    assert (weights_card(path)["epoch"], weights_card(path)["dsc"]) == (2, 0.5)


def test_last_weights_are_kept_without_a_score(tmp_path: Path) -> None:
    path, model = tmp_path / "model.pt", network(0.25)
    engine = Engine(lambda engine, batch: None)
    SaveLastWeights(model, path, {"data": "phantom"}).attach(engine)
    engine.run([0], max_epochs=3)
    assert load_weights(network(), path).head.weight.flatten().tolist() == [0.25] * 4
    card = weights_card(path)
    assert (card["epoch"], card["trained_on"]) == (3, {"data": "phantom"})
    assert "not for clinical use" in card["note"]
    with pytest.raises(OutputError, match="exists already; say --overwrite True"):
        SaveLastWeights(model, path, {})


def test_a_score_that_is_no_number_stops_training(tmp_path: Path) -> None:
    engine = Engine(lambda engine, batch: None)
    engine.state.key_metric_name, engine.state.metrics = "dsc", {"dsc": float("nan")}
    with pytest.raises(InputError, match="dsc is not a number: the validation patients show nothing"):
        SaveBestWeights(network(), tmp_path / "model.pt", {})(engine)


def test_earlier_weights_are_kept_unless_told(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"weeks of work")
    with pytest.raises(OutputError, match="exists already; say --overwrite True"):
        SaveBestWeights(network(), tmp_path / "model.pt", {})
    SaveBestWeights(network(), tmp_path / "model.pt", {}, overwrite=True)


def test_card_of_another_file_is_not_believed(tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / "model.pt")
    (tmp_path / "model.json").write_text(json.dumps({"sha256": "0" * 64, "trained_on": {"data": "patients"}}))
    assert weights_card(tmp_path / "model.pt")["trained_on"] is None


def test_refusals(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with pytest.raises(InputError, match="no such weights"):
        load_weights(network(), path)
    path.write_bytes(b"not weights")
    with pytest.raises(InputError, match=r"model\.pt: is no file of weights"):
        load_weights(network(), path)
    torch.save([1, 2], path)
    with pytest.raises(InputError, match="holds no state_dict"):
        load_weights(network(), path)
    torch.save(network(width=3).state_dict(), path)
    with pytest.raises(InputError, match=r"does not fit the network: .*size mismatch"):
        load_weights(network(), path)
    state = network().state_dict()
    torch.save({key: value for key, value in state.items() if key != "head.bias"}, path)
    with pytest.raises(InputError, match="Missing key"):
        load_weights(network(), path)
    torch.save(network(float("nan")).state_dict(), path)
    with pytest.raises(InputError, match="NaN or infinite weights in encoder1"):
        load_weights(network(), path)


class Trap:
    def __reduce__(self) -> tuple:
        return (pytest.fail, ("code in a file of weights was run",))


def test_code_in_weights_is_not_run(tmp_path: Path) -> None:
    torch.save({"weight": Trap()}, tmp_path / "model.pt")
    with pytest.raises(InputError, match="is no file of weights"):
        load_weights(network(), tmp_path / "model.pt")


def test_options_of_the_training_are_those_of_the_use(tmp_path: Path) -> None:
    path, engine = tmp_path / "model.pt", Engine(lambda engine, batch: None)
    SaveLastWeights(network(), path, {}, options={"classes": ["a", "b"], "size": 64}).attach(engine)
    engine.run([0])
    assert stored_option(path, "size", 224) == 64
    assert stored_option(path, "other", 7) == 7
    assert stored_option(tmp_path / "none.pt", "size", 224) == 224
    load_weights(network(), path, options={"classes": ["a", "b"], "size": 64, "unknown": 1})
    with pytest.raises(InputError, match=r"was trained with classes \['a', 'b'\], not \['b', 'a'\]"):
        load_weights(network(), path, options={"classes": ["b", "a"]})


def test_weights_that_are_no_numbers_are_not_saved(tmp_path: Path) -> None:
    engine = Engine(lambda engine, batch: None)
    SaveLastWeights(network(float("nan")), tmp_path / "model.pt", {}).attach(engine)
    with pytest.raises(NumericalError, match=r"is not saved: .* holds NaN"):
        engine.run([0])
    assert list(tmp_path.iterdir()) == []


def test_weights_without_their_card_are_refused(tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / "model.pt")
    with pytest.raises(InputError, match="has no card of its own beside it"):
        require_card(tmp_path / "model.pt")
    require_card(tmp_path / "model.pt", allow_missing=True)
    engine = Engine(lambda engine, batch: None)
    SaveLastWeights(network(0.25), tmp_path / "own.pt", {}, options={"width": 2}).attach(engine)
    engine.run([0], max_epochs=1)
    require_card(tmp_path / "own.pt")
    # a card that belongs to other weights is none
    (tmp_path / "model.json").write_text((tmp_path / "own.json").read_text())
    with pytest.raises(InputError, match="has no card"):
        require_card(tmp_path / "model.pt")


def test_a_file_of_weights_does_not_hold_its_own_name(tmp_path: Path) -> None:
    handler = SaveLastWeights(network(), tmp_path / "Mustermann.pt", {})
    handler(Engine(lambda engine, batch: None))
    assert b"Mustermann" not in (tmp_path / "Mustermann.pt").read_bytes()
