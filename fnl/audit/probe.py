"""Everywhere that a configuration bounds a clip or a client: does the bound hold?

For an audit, of a whole round; and as a probe of a step, before a run trusts modules of the user's.
"""

from __future__ import annotations

from fnl.audit.release_sensitivity import rate_sensitivity, update_sensitivity
from fnl.audit.sensitivity import TIGHT, Sensitivity, evenly, with_bounds_of
from fnl.audit.step_sensitivity import batches_of, step_sensitivity
from fnl.config import Config
from fnl.data.federated import Federation
from fnl.errors import ConfigError
from fnl.snn.network import own_keys
from fnl.training.units import unit_counts

_PROBED = 8
"""Clips in the mini-batch of a probe."""


def sensitivities(config: Config, federation: Federation, clips: int) -> list[Sensitivity]:
    """Return how far clips and clients move all that is released, under the bounds and tight ones.

    Where `privacy.unit` is the speaker, speakers take the place of clips.

    Args:
        config: of the run.
        federation: its clips; the first client's are looked at.
        clips: how many are removed in turn, and how many clients.

    Raises:
        ConfigError: if the configuration bounds nothing.
    """
    if not (config.is_private or config.is_client_private):
        raise ConfigError(
            f"privacy.mode = {config.privacy.mode!r} bounds no clip and no client: there is no "
            "sensitivity to audit"
        )
    found: list[Sensitivity] = []
    for bounded in (config, with_bounds_of(config, TIGHT)):
        if config.is_private:
            batches = batches_of(bounded, federation)
            drawn = sorted({row for rows in batches for row in rows})
            removed = evenly(drawn, clips)
            found += step_sensitivity(bounded, federation, removed, batches)
        if config.rate_epsilon > 0:
            everyone = range(unit_counts(config, federation)[0])
            found.append(rate_sensitivity(bounded, federation, evenly(everyone, clips)))
        if config.is_client_private:
            found.append(update_sensitivity(bounded, federation, clips))
    return found


def probe(config: Config, federation: Federation) -> list[Sensitivity]:
    """Return how far three units of one client move a single step and its release of rates.

    The bounds are tight ones: a network under which clips meet shows at its first step. It takes
    the time of a few steps of eight of them, and of a few evaluations where rates are released.

    Args:
        config: names network, neuron and encoder; record-level private.
        federation: its clips.
    """
    config = with_bounds_of(config, TIGHT)
    sizes = unit_counts(config, federation)
    partition = sizes.index(max(sizes))
    rows = list(range(min(_PROBED, max(sizes))))
    removed = evenly(rows, 3)
    found = step_sensitivity(config, federation, removed, [rows], partition=partition)
    if config.rate_epsilon > 0:
        found.append(rate_sensitivity(config, federation, removed, partition=partition))
    return found


def refuse_own_modules_that_mix(config: Config, federation: Federation) -> None:
    """Probe a private run whose network, neuron or encoder is the user's own.

    Raises:
        ConfigError: naming the key, if a clip moves more than its bound.
    """
    own = own_keys(config.model)
    if not own or not config.is_private:
        return
    for found in probe(config, federation):
        if not found.holds:
            raise ConfigError(
                f"{' or '.join(own)}: {found.described}, so no ε would hold: what is computed of "
                "a clip must depend on this clip alone (docs/extending.md)"
            )
