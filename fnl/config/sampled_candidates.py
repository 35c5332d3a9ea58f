"""What does not go together with candidates drawn in secret: all that would tell who they were."""

from __future__ import annotations

from collections.abc import Iterator

from fnl.config.groups import Config


def tells_who_was_drawn(config: Config) -> Iterator[str]:
    """Yield what has to know the candidates, or has the global model depend on them."""
    coordination = config.coordination
    if config.is_private:
        yield (
            f"privacy.mode = {config.privacy.mode!r} sets each client's noise by the rounds in "
            "which it will be asked, which nobody knows then: use privacy.mode = 'client', or "
            "'none' for its twin"
        )
    if coordination.selected != coordination.candidates:
        yield (
            f"coordination.selected = {coordination.selected} of coordination.candidates = "
            f"{coordination.candidates}: who is drawn is in the sum whoever else is, make them "
            "equal"
        )
    if coordination.selection != "random":
        yield (
            f"coordination.selection = {coordination.selection!r} has nobody to leave out, as all "
            "candidates are in the sum: use 'random'"
        )
    if coordination.aggregation != "fedavg":
        yield (
            f"coordination.aggregation = {coordination.aggregation!r} weighs a client by who else "
            "is there, or by what they sent: use 'fedavg', whose weights are fixed here"
        )
    if coordination.algorithm != "none":
        yield (
            f"coordination.algorithm = {coordination.algorithm!r} sees who the candidates are and "
            "may tell by the global model: leave it out"
        )
    if coordination.max_share != 1:
        yield (
            f"coordination.max-share = {coordination.max_share:g} leaves out who was drawn often: "
            "set it to 1"
        )
    if coordination.probe:
        yield "coordination.probe asks the selected again, who are all: set it to false"
    if coordination.minimum:
        yield (
            f"coordination.minimum = {coordination.minimum} stops a run by how many were drawn, "
            "and rounds that go on would no longer be of independent draws: set it to 0"
        )
