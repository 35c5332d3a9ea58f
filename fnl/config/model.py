"""The group `model` of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from fnl.config.kinds import Count, Group, Positive, known_or_own

NETWORKS = ("feedforward", "recurrent", "temporal-conv", "conv", "delays")
NEURONS = ("lif", "recurrent-lif", "synaptic", "adlif")
ENCODINGS = ("direct", "rate", "delta", "latency")
"""Names in the registries of `fnl.snn`."""


class ModelGroup(Group, frozen=True):
    """The spiking network."""

    network: str = "feedforward"
    """A name in `NETWORKS`, or `module:function` of one's own."""
    hidden: Annotated[str, Field(pattern=r"^\d+(,\d+)*$")] = "128,128"
    """Neurons (convolutions: channels) of each spiking layer, comma-separated."""
    kernel_size: Annotated[int, Field(ge=1, le=99)] = 5
    """Time steps that a convolution sees."""
    dilations: Annotated[str, Field(pattern=r"^\d+(,\d+)*$")] = "1,2,4"
    """Steps between the taps of each layer's convolution; a surplus is not used."""
    padding: Literal["same", "causal"] = "same"
    """`causal`: a convolution sees no later step."""
    neuron: str = "lif"
    """A name in `NEURONS`, or `module:function` of one's own."""
    beta: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """Decay of the membrane per time step."""
    learn_beta: bool = False
    """One trained decay a neuron, drawn from beta-range at the start."""
    beta_range: Annotated[str, Field(pattern=r"^0?\.\d+,0?\.\d+$")] = "0.7,0.95"
    threshold: Positive = 1.0
    learn_threshold: bool = False
    reset: Literal["subtract", "zero", "none"] = "subtract"
    """What a spike does to the membrane."""
    synaptic_decay: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Decay of the input current per step, of `synaptic`."""
    adaptation_decay: Annotated[float, Field(gt=0, lt=1)] = 0.97
    """Decay of the adaptation per step, of `adlif`."""
    adaptation: Annotated[float, Field(ge=0, le=2)] = 0.5
    """What a spike adds to the adaptation, of `adlif`."""
    surrogate: Literal["fast-sigmoid", "atan", "sigmoid", "triangular"] = "fast-sigmoid"
    surrogate_slope: Positive = 10.0
    normalisation: Literal["none", "layer", "group"] = "layer"
    """Normalisation of a layer's input current within one clip and time step."""
    groups: Count = 8
    """Groups of `normalisation = group`; divides every layer."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability with which a spike is dropped in training."""
    readout: Literal["membrane", "mean"] = "membrane"
    """Logits: time mean of a leaky integrator, or of the current alone."""
    encoding: str = "direct"
    """A name in `ENCODINGS`, or `module:function` of one's own."""
    delta_threshold: Positive = 0.5
    """Change between two steps that makes a spike under `delta`."""
    latency_steps: Annotated[int, Field(ge=2)] = 5
    """Steps of a window of `latency`, in which every feature spikes once."""

    @field_validator("network")
    @classmethod
    def _network_is_there(cls, value: str) -> str:
        return known_or_own(value, NETWORKS)

    @field_validator("neuron")
    @classmethod
    def _neuron_is_there(cls, value: str) -> str:
        return known_or_own(value, NEURONS)

    @field_validator("encoding")
    @classmethod
    def _encoding_is_there(cls, value: str) -> str:
        return known_or_own(value, ENCODINGS)

    @field_validator("hidden", "dilations")
    @classmethod
    def _sizes_are_positive(cls, value: str, info: ValidationInfo) -> str:
        if any(int(size) < 1 for size in value.split(",")):
            thing = "layer needs" if info.field_name == "hidden" else "dilation is"
            unit = "neuron" if info.field_name == "hidden" else "step"
            raise ValueError(f"every {thing} at least one {unit}")
        return value

    @field_validator("beta_range")
    @classmethod
    def _range_is_one(cls, value: str) -> str:
        low, high = (float(end) for end in value.split(","))
        if not 0 < low <= high:
            raise ValueError("give the lower and the upper end, both above 0 and below 1")
        return value

    @property
    def hidden_sizes(self) -> tuple[int, ...]:
        """Neurons of each spiking layer."""
        return tuple(int(size) for size in self.hidden.split(","))

    @property
    def layer_dilations(self) -> tuple[int, ...]:
        """Dilation of each spiking layer, as many as there are layers."""
        return tuple(int(steps) for steps in self.dilations.split(","))[: len(self.hidden_sizes)]

    @property
    def beta_ends(self) -> tuple[float, float]:
        """Lower and upper end of the decays that learning starts from."""
        low, high = (float(end) for end in self.beta_range.split(","))
        return low, high
