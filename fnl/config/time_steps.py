"""What does not go together with clients whose time steps differ."""

from __future__ import annotations

from collections.abc import Iterator

from fnl.config.groups import Config

HOPS = tuple(hop for hop in range(5, 101) if 1000 % hop == 0)
"""Time steps in ms that divide a second."""


def not_in_other_steps(config: Config) -> Iterator[str]:
    """Yield what cannot be converted from one time step to another."""
    data, model = config.data, config.model
    for hop in data.client_hops:
        if hop not in HOPS:
            yield f"{hop} ms do not divide a second: use some of {', '.join(map(str, HOPS))}"
    if len(set(data.client_hops)) < len(data.client_hops):
        yield "a hop is named twice: clients get each equally often"
    if data.corpus == "spikes":
        yield (
            "data.corpus = 'spikes' has events, of which a longer step holds more: no gain makes "
            "them the same input, leave data.frame-hops out"
        )
    for key, name in model.own.items():
        yield (
            f"nobody knows what of model.{key} = {name!r} is in steps: use what is built in, or "
            "leave data.frame-hops out"
        )
    if model.network == "recurrent" or model.neuron == "recurrent-lif":
        yield (
            "recurrent synapses take one step, however long it is: use model.network = "
            "'feedforward' with another model.neuron, or leave data.frame-hops out"
        )
    if model.encoding in ("delta", "latency"):
        yield (f"model.encoding = {model.encoding!r} is a code in steps: use 'direct' or 'rate'")
    if model.network in ("temporal-conv", "conv") and model.kernel_size > 1:
        yield from _kernels(config)
    if config.run.batched_clients not in ("auto", "0"):
        yield (
            f"run.batched-clients = {config.run.batched_clients!r} trains clients of one step "
            "alone: use 'auto', which trains these one at a time"
        )
    if config.evaluation.sensitivity:
        yield "evaluation.sensitivity knows rates of one step alone: set it to false"
    if config.coordination.rate_gradient:
        yield (
            "coordination.rate-gradient is of networks at data.frame-hop-ms, not of clients at "
            "other steps: set it to 0"
        )


def _kernels(config: Config) -> Iterator[str]:
    """Yield the taps of convolutions that fall between the steps of a client."""
    data, model = config.data, config.model
    for hop in data.client_hops:
        for dilation in model.layer_dilations[: len(model.hidden_sizes)]:
            milliseconds = dilation * data.frame_hop_ms
            if milliseconds % hop:
                yield (
                    f"taps of model.network = {model.network!r} are {dilation} steps of "
                    f"{data.frame_hop_ms} ms apart, no whole number of steps of {hop} ms: change "
                    "model.dilations, or use model.network = 'delays'"
                )
