from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from bonemonai.networks import VertebraFusion
from tests.networks.torchvision_models import seeded


def test_equals_the_papers_equations() -> None:
    with seeded():
        fusion, vectors = VertebraFusion(6, hidden=4), torch.randn(3, 2, 6)
    first, second = fusion.perceptron[0], fusion.perceptron[2]
    fusion.requires_grad_(False)
    for case, (one, other) in enumerate(vectors):
        scores = [
            float(second.weight[0] @ (first.weight @ vector + first.bias).clamp(min=0)) for vector in (one, other)
        ]
        weight = 1 / (1 + torch.tensor(scores[1] - scores[0]).exp())
        expected = fusion.fc.weight @ torch.cat([weight * one, (1 - weight) * other]) + fusion.fc.bias
        found = fusion(vectors)
        torch.testing.assert_close(found.logits[case], expected)
        torch.testing.assert_close(found.weights[case], torch.stack([weight, 1 - weight]))
        assert abs(float(weight) - 0.5) > 0.001


def test_without_fusion_the_vectors_stay_as_they_are() -> None:
    with seeded():
        fusion, vectors = VertebraFusion(5, feature_fusion=False), torch.randn(2, 2, 5)
    assert {name.split(".")[0] for name in fusion.state_dict()} == {"fc"}
    found = fusion(vectors)
    torch.testing.assert_close(found.logits, F.linear(vectors.flatten(1), fusion.fc.weight, fusion.fc.bias))
    assert torch.equal(found.weights, torch.ones(2, 2))


@pytest.mark.parametrize("feature_fusion", [True, False])
def test_a_missing_vertebra_has_no_weight_whatever_its_vector_holds(feature_fusion: bool) -> None:
    with seeded():
        fusion, vectors = VertebraFusion(5, feature_fusion=feature_fusion), torch.randn(4, 2, 5)
    present = torch.tensor([[True, True], [False, True], [True, False], [False, False]])
    vectors[1, 0], vectors[2, 1], vectors[3] = torch.nan, torch.inf, torch.nan
    vectors.requires_grad_()
    found = fusion(vectors, present)
    assert found.weights[1:].tolist() == [[0, 1], [1, 0], [0, 0]]
    for case, other in ((1, 1), (2, 0)):
        given = torch.zeros(2, 5)
        given[other] = vectors[case, other]
        expected = F.linear(given.flatten(), fusion.fc.weight, fusion.fc.bias)
        torch.testing.assert_close(found.logits[case], expected)
    torch.testing.assert_close(found.logits[0], fusion(vectors[:1]).logits[0])
    # no class from nothing
    assert found.logits[3].isnan().all()
    found.logits[:3].square().sum().backward()
    assert vectors.grad is not None
    assert torch.equal(vectors.grad.any(dim=2), present)
    for value in (vectors, *fusion.parameters()):
        assert value.grad is not None
        assert value.grad.isfinite().all()


def test_parameters_by_hand() -> None:
    with torch.device("meta"):
        fusion, plain = VertebraFusion(), VertebraFusion(feature_fusion=False)
    assert sum(value.numel() for value in plain.parameters()) == 2 * 2048 * 3 + 3 == 12_291
    assert sum(value.numel() for value in fusion.parameters()) == 12_291 + 2048 * 128 + 128 + 128 == 274_691


def test_every_parameter_learns_and_so_do_both_vertebrae() -> None:
    with seeded():
        fusion, vectors = VertebraFusion(8), torch.randn(4, 2, 8, requires_grad=True)
    F.cross_entropy(fusion(vectors).logits, torch.tensor([0, 1, 2, 1])).backward()
    for value in (vectors, *fusion.parameters()):
        assert value.grad is not None
        assert value.grad.any()


def test_learns_which_vertebra_to_trust() -> None:
    """The class stands in one vertebra, which says so; the other holds another class."""
    with seeded():
        fusion = VertebraFusion(8, hidden=16)
        labels, trusted = torch.randint(3, (128,)), torch.randint(2, (128,))
        vectors = torch.randn(128, 2, 8) * 0.1
        for case in range(128):
            vectors[case, trusted[case], labels[case]] += 1
            vectors[case, trusted[case], 7] += 1
            vectors[case, 1 - trusted[case], int(torch.randint(3, ()))] += 1
        optimiser = torch.optim.Adam(fusion.parameters(), lr=0.02)
        for _ in range(150):
            optimiser.zero_grad()
            F.cross_entropy(fusion(vectors).logits, labels).backward()
            optimiser.step()
        found = fusion(vectors)
    assert (found.logits.argmax(dim=1) == labels).float().mean() > 0.95
    assert found.weights[torch.arange(128), trusted].mean() > 0.8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 0}, "channels must be >= 1"),
        ({"num_classes": 0}, "num_classes must be >= 1"),
        ({"hidden": 0}, "hidden must be >= 1"),
    ],
)
def test_arguments_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VertebraFusion(**options)


def test_other_vectors_are_refused() -> None:
    for shape in ((2, 2, 7), (2, 3, 8), (2, 16)):
        with pytest.raises(ValueError, match=re.escape(f"vectors must be (B, 2, 8), got {shape}")):
            VertebraFusion(8)(torch.zeros(shape))
    for present in (torch.ones(2, 2), torch.ones(1, 2, dtype=torch.bool)):
        with pytest.raises(ValueError, match=r"present must be bool and \(2, 2\)"):
            VertebraFusion(8)(torch.zeros(2, 2, 8), present)
