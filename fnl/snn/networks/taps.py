"""Which steps of time a linear map sees around each step."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fnl.config import ModelGroup
from fnl.errors import ConfigError


@dataclass(frozen=True)
class Taps:
    """Steps of the input that each step of the output sees.

    Attributes:
        size: how many.
        dilation: steps from one to the next.
        causal: whether they reach back only, else as far ahead as back.
    """

    size: int
    dilation: int = 1
    causal: bool = False

    @property
    def padding(self) -> tuple[int, int]:
        """Zeros before and after a clip, so that a convolution keeps its length."""
        reach = self.dilation * (self.size - 1)
        return (reach, 0) if self.causal else (reach // 2, reach - reach // 2)

    def in_time(self, ratio: float) -> Taps:
        """Return the taps in steps `ratio` times as long.

        Raises:
            ConfigError: if they fall between these steps.
        """
        dilation = self.dilation / ratio
        if self.size > 1 and abs(dilation - round(dilation)) > 1e-9:
            raise ConfigError(
                f"taps {self.dilation} steps apart fall between steps {ratio:g} times as long"
            )
        return replace(self, dilation=max(1, round(dilation)))


def taps_of(model: ModelGroup) -> list[Taps]:
    """Return the taps of each layer of a network."""
    causal = model.padding == "causal"
    return [Taps(model.kernel_size, dilation, causal) for dilation in model.layer_dilations]
