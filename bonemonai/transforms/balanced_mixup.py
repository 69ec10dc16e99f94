"""Batches as they occur, mixed with class-balanced ones (paper 4, 3.2).

    x = (1 - lam) x_I + lam x_C,   lam ~ Beta(alpha, 1),   mean alpha / (alpha + 1)

I is drawn as samples occur, C so that classes are equally frequent. Eq. (2) of the paper prints the weights the other
way round, so that at alpha = 0.1 ten elevenths of an image would be of the balanced batch on average, against its next
sentence (a growing alpha mixes minority classes in with greater weight) and the source that it cites.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch

LambdaOn = Literal["class", "instance"]


class Mixed(NamedTuple):
    """Both targets of a mixed batch, which no average of masks, boxes or classes could stand for.

    Attributes:
        target_a: of the batch as samples occur.
        target_b: of the class-balanced one.
        lam: weight of ``target_b``, in [0, 1]; that of ``target_a`` is 1 - lam.
    """

    target_a: Any
    target_b: Any
    lam: float

    def weigh(self, loss: Callable[[Any, Any], torch.Tensor], prediction: Any) -> torch.Tensor:
        """(1 - lam) loss(prediction, target_a) + lam loss(prediction, target_b).

        Args:
            loss: of a prediction and a target.
            prediction: of the mixed images.
        """
        return (1 - self.lam) * loss(prediction, self.target_a) + self.lam * loss(prediction, self.target_b)


class BalancedMixUp:
    """Mix two batches, the i-th subject of one with the i-th of the other.

    One lam is drawn a batch, as in the source that the paper cites, and holds for every image and every target: the two
    slices of a subject (L1 and L2) have one partner subject, and every task's loss is weighed alike.

    Args:
        image_keys: images to mix, all of the same partner.
        target_keys: what becomes a :class:`Mixed` pair.
        alpha: of Beta(alpha, 1), above 0; at 0.1 the mean of lam is 1/11.
        lambda_on: "class": lam weighs the class-balanced image. "instance": it weighs the other, as printed in eq. (2).
        seed: of the draws.

    Raises:
        ValueError: if alpha is not above 0, or ``lambda_on`` is another word.

    Source:
        Zhang et al., eq. (2); Galdran, Carneiro and Gonzalez Ballester, Balanced-MixUp, MICCAI 2021, pages 323-333.

    Example:
        >>> mix = BalancedMixUp(["image"], ["label"])
        >>> batch = mix({"image": torch.zeros(1, 1), "label": [0]}, {"image": torch.ones(1, 1), "label": [2]})
        >>> bool(batch["image"] == batch["label"].lam), batch["label"][:2]
        (True, ([0], [2]))
    """

    def __init__(
        self,
        image_keys: Sequence[Hashable],
        target_keys: Sequence[Hashable] = (),
        *,
        alpha: float = 0.1,
        lambda_on: LambdaOn = "class",
        seed: int = 0,
    ) -> None:
        if not 0 < alpha < np.inf:
            raise ValueError(f"alpha must be > 0, got {alpha}.")
        if lambda_on not in get_args(LambdaOn):
            raise ValueError(f"lambda_on must be class or instance, got {lambda_on!r}.")
        self.image_keys, self.target_keys, self.alpha = tuple(image_keys), tuple(target_keys), alpha
        self.lambda_on: LambdaOn = lambda_on
        self._rng = np.random.default_rng(seed)

    def draw(self) -> float:
        """The next batch's weight of class-balanced images."""
        lam = float(self._rng.beta(self.alpha, 1.0))
        return lam if self.lambda_on == "class" else 1 - lam

    def __call__(
        self, instance_batch: Mapping[Hashable, Any], class_batch: Mapping[Hashable, Any]
    ) -> dict[Hashable, Any]:
        """Mix two batches.

        Args:
            instance_batch: drawn as samples occur.
            class_batch: drawn class-balanced, with at least as many subjects.

        Returns:
            The mixed images and the pairs of targets, and nothing else: what is not named belongs to one of both
            subjects only.

        Raises:
            ValueError: if the second batch is the smaller one, or images differ in shape.
        """
        lam = self.draw()
        mixed: dict[Hashable, Any] = {}
        for key in (*self.image_keys, *self.target_keys):
            one, other = instance_batch[key], class_batch[key]
            if len(other) < len(one):
                raise ValueError(f"class_batch must have {len(one)} subjects or more, got {len(other)} of {key!r}.")
            other = other[: len(one)]
            mixed[key] = Mixed(one, other, lam) if key in self.target_keys else _mixed(key, one, other, lam)
        return mixed


class BalancedMixUpLoader:
    """Two loaders as one: an epoch is one of the first, each batch mixed with the second's next.

    Args:
        instance_loader: draws samples as they occur.
        class_loader: draws them class-balanced, see :func:`bonemonai.data.class_sampler`; begins anew when it ends, and
            leaves a smaller last batch out (``drop_last``).
        mix: how.
    """

    def __init__(
        self,
        instance_loader: Iterable[Mapping[Hashable, Any]],
        class_loader: Iterable[Mapping[Hashable, Any]],
        mix: BalancedMixUp,
    ) -> None:
        self.instance_loader, self.class_loader, self.mix = instance_loader, class_loader, mix

    def __len__(self) -> int:
        return len(self.instance_loader)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[dict[Hashable, Any]]:
        partners = self._partners()
        for batch in self.instance_loader:
            yield self.mix(batch, next(partners))

    def _partners(self) -> Iterator[Mapping[Hashable, Any]]:
        while True:
            empty = True
            for batch in self.class_loader:
                empty = False
                yield batch
            if empty:
                raise ValueError("class_loader must give a batch or more, got none.")


def _mixed(key: Hashable, one: Any, other: Any, lam: float) -> torch.Tensor:
    # plain tensors: a mixture lies in no patient
    first, second = (torch.as_tensor(value).as_subclass(torch.Tensor) for value in (one, other))
    if first.shape != second.shape:
        raise ValueError(f"images must have one shape to be mixed, got {first.shape} and {second.shape} of {key!r}.")
    return (1 - lam) * first + lam * second
