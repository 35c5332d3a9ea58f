"""The group `model` of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from fnl.config.kinds import BelowOne, Count, Group, Inside, Positive, Sizes, known_or_own
from fnl.config.public_starts import SYNTHETIC

NETWORKS = {
    "feedforward": "fnl.snn.networks.dense:dense",
    "recurrent": "fnl.snn.networks.dense:dense",
    "temporal-conv": "fnl.snn.networks.temporal_conv:temporal_conv",
    "conv": "fnl.snn.networks.conv:conv",
    "delays": "fnl.snn.networks.temporal_conv:delays",
}
NEURONS = {
    "lif": "fnl.snn.neurons.lif:LIF.build",
    "recurrent-lif": "fnl.snn.neurons.recurrent:RecurrentLIF.build",
    "synaptic": "fnl.snn.neurons.synaptic:Synaptic.build",
    "adlif": "fnl.snn.neurons.adaptive:AdaptiveLIF.build",
}
ENCODINGS = {
    "direct": "fnl.snn.encoders:Encoder.build",
    "rate": "fnl.snn.encoders:RateEncoder.build",
    "delta": "fnl.snn.encoders:DeltaEncoder.build",
    "latency": "fnl.snn.encoders:LatencyEncoder.build",
}
"""What is built in, by name: `module:function`, as for one's own. Imported when it is built."""

BUILT_IN = {"network": NETWORKS, "neuron": NEURONS, "encoding": ENCODINGS}
"""The keys of the model that may name something of one's own."""


class ModelGroup(Group, frozen=True):
    """The spiking network."""

    network: Annotated[str, known_or_own(NETWORKS)] = "feedforward"
    """`feedforward`, `recurrent`, `temporal-conv` (dilated, over time), `conv` (over time and
    frequency), `delays` (learned, one set a neuron), or `module:function` of your own."""
    initial: str = SYNTHETIC
    """What a run starts from: `synthetic`, the public start that comes with fnl for the default
    network and for recipe `nir`; a run directory or a file of `fnl pretrain`, whose corpus is
    taken as public; empty: drawn from `run.seed`. Of other labels the read-out is drawn anew.
    Where it is not given and the network or the features are others, weights are drawn, and
    `training.trained`, `training.learning-rate` and `privacy.clip-norm` follow
    ([private keywords](private-keywords.md#the-start-that-comes-with-fnl))."""
    hidden: Sizes = "128,128"
    """Neurons of each spiking layer, comma-separated; channels under `conv`."""
    kernel_size: Annotated[int, Field(ge=1, le=99)] = 5
    """Time steps a convolution sees, delays a neuron has under `delays`; odd unless causal."""
    dilations: Sizes = "1,2,4"
    """Steps between a convolution's taps (where `delays` start), one entry a layer; a surplus is
    not used."""
    padding: Literal["same", "causal"] = "same"
    """`same`, or `causal`: no later step enters."""
    neuron: Annotated[str, known_or_own(NEURONS)] = "lif"
    """`lif`: snnTorch's `Leaky`, reset by subtraction; `recurrent-lif`: its `RLeaky`; `synaptic`:
    its `Synaptic`; `adlif`: adaptive LIF (Bittar & Garner 2022); or `module:function` of your
    own."""
    activation: Literal["spiking", "relu"] = "spiking"
    """`spiking`, or `relu`: the network's conventional twin, the same layers with leaky integrators
    that send max(u, 0). Its rates are mean activations; threshold, surrogate are not used
    ([networks](networks.md#the-twin-without-spikes))."""
    beta: Inside = 0.9
    """Decay of the membrane per step, in (0, 1); also of the read-out."""
    learn_beta: bool = False
    """Trained decays, one a neuron, through a sigmoid; of `synaptic` both, of `adlif` its
    adaptation, too."""
    beta_range: Annotated[str, Field(pattern=r"^0?\.\d+,0?\.\d+$")] = "0.7,0.95"
    """The uniform range in which trained decays start."""
    threshold: Positive = 1.0
    """Firing threshold θ."""
    learn_threshold: bool = False
    """One trained threshold a neuron, starting at `model.threshold`."""
    reset: Literal["subtract", "zero", "none"] = "subtract"
    """What a spike does to the membrane: `subtract` θ, set it to `zero`, `none`."""
    synaptic_decay: Inside = 0.5
    """Decay of the input current per step, of `synaptic`."""
    adaptation_decay: Inside = 0.97
    """Decay of the adaptation per step, of `adlif`."""
    adaptation: Annotated[float, Field(ge=0, le=2)] = 0.5
    """What a spike adds to the adaptation, of `adlif`."""
    surrogate: Literal["fast-sigmoid", "atan", "sigmoid", "triangular"] = "fast-sigmoid"
    """Surrogate gradient: `fast-sigmoid`, `atan`, `sigmoid`, `triangular`."""
    surrogate_slope: Positive = 10.0
    """Its slope."""
    normalisation: Literal["none", "layer", "group"] = "layer"
    """`layer` (over the neurons of one step), `group` (over groups of them) or `none`."""
    groups: Count = 8
    """Groups of `group`; divides every layer."""
    dropout: BelowOne = 0.0
    """Probability with which a spike is dropped in training; the same spikes in a run, its twin and
    its shadow."""
    readout: Literal["membrane", "mean"] = "membrane"
    """Logits: time mean of a leaky integrator (`membrane`) or of the current alone (`mean`)."""
    readout_layers: Literal["last", "all"] = "last"
    """Whose spikes the read-out is given: the `last` layer's, or those of `all` layers."""
    standardise: bool = False
    """`true`: the read-out is given each neuron's mean spikes minus their mean, over their
    deviation, numbers that `fnl pretrain` fits to its clips. Gradients of private clips are then
    shorter, and tell more."""
    encoding: Annotated[str, known_or_own(ENCODINGS)] = "direct"
    """`direct`: features are input currents; `rate`, `delta`, `latency`: spikes, by snnTorch's
    spikegen; or `module:function` of your own."""
    delta_threshold: Positive = 0.5
    """Change between two steps that makes a spike under `delta`."""
    latency_steps: Annotated[int, Field(ge=2)] = 5
    """Steps of a window under `latency`, in which every feature spikes once; divides the steps of a
    clip."""

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
    def spikes(self) -> bool:
        """Whether neurons spike, so that a rate is at most 1."""
        return self.activation == "spiking"

    @property
    def own(self) -> dict[str, str]:
        """What is of the user's own, by the keys in `BUILT_IN` that name it."""
        names = {key: getattr(self, key) for key in BUILT_IN}
        return {key: name for key, name in names.items() if name not in BUILT_IN[key]}

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
