"""The group `data` of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fnl.config.kinds import Count, Group, NonNegative, Positive, Seed, Text, known_or_own

CORPORA = ("synthetic", "speech-commands", "folder", "spikes", "device")
PARTITIONERS = {
    "speaker": "fnl.data.partitioning.speakers:partition_by_speaker",
    "dirichlet": "fnl.data.partitioning.dirichlet:partition_dirichlet",
    "shards": "fnl.data.partitioning.shards:partition_shards",
    "iid": "fnl.data.partitioning.iid:partition_iid",
}
"""What is built in, by name: `module:function`, as for one's own."""


class DataGroup(Group, frozen=True):
    """Corpus, features and how the training clips are spread over clients."""

    corpus: Annotated[str, known_or_own(CORPORA)] = "synthetic"
    """`synthetic`, `speech-commands`, `folder`, `spikes`: event data as SHD and SSC have it
    ([event data](event-data.md)), `device`: every client's own clips, on real devices
    ([deployment](deployment.md)), or `module:function` of your own."""
    root: str = ""
    """Folder of the corpus (for `speech-commands` the folder that holds `SpeechCommands/`; under
    `device` the server's own clips for evaluation, empty: none)."""
    speaker_pattern: str = ""
    """Who speaks in a clip of `folder`, where that is not what precedes the first `_` of the file's
    name: a regular expression whose first group is found in `<label>/<file>`
    (`_(\\w+)_\\d+\\.wav$`), or a file of lines `<label>/<file>`, tab, speaker."""
    words: Text = "core"
    """`core` (ten words), `all`, `twelve` (core, unknown, silence, whose cuts share no sample;
    Speech Commands only) or a list `yes,no,up`. With `folder` and `spikes`, `core` and `all`
    mean every label."""
    clients: Count = 20
    """Partitions of the training clips = clients = Flower's `num-supernodes`."""
    partitioner: Annotated[str, known_or_own(PARTITIONERS)] = "speaker"
    """`speaker` (whole speakers), `dirichlet` (label skew), `shards` (few labels a client),
    `iid`, or `module:function` of your own."""
    alpha: Positive = 0.3
    """Concentration of `dirichlet`: 0.1 very skewed, 100 nearly IID."""
    labels_per_client: Count = 2
    """Labels of a client under `shards`."""
    quantity_alpha: NonNegative = 0.0
    """Dirichlet concentration of client sizes under `iid`; 0: equal sizes."""
    min_clips: Count = 2
    """Fewest clips a client may have; impossible demands are an error."""
    speakers: Annotated[int, Field(ge=10)] = 250
    """Speakers of the synthetic corpus, at least 10; of every ten, eight train, one validates, one
    tests."""
    clips_per_word: Count = 8
    """Clips of each word by each synthetic speaker."""
    difficulty: NonNegative = 1.5
    """Spread of synthetic voices, rooms and noise, 0 to 4; 1.5 is about as hard as real clips."""
    corpus_seed: Seed = 0
    """Seed of the corpus itself: synthesis, and the split of `folder`."""
    features: Literal["log-mel", "mfcc"] = "log-mel"
    """`log-mel` or `mfcc`, normalised within each clip."""
    mel_bins: Annotated[int, Field(ge=4, le=128)] = 40
    """Features of a time step; of `spikes` see `data.event-channels`."""
    event_channels: Annotated[int, Field(ge=1, le=1024)] = 140
    """Groups of adjacent channels of `spikes`, the features of a time step."""
    event_values: Literal["counts", "binary"] = "counts"
    """What a step of `spikes` is: the `counts` of its events, or `binary`, whether there is one."""
    frame_hop_ms: Annotated[int, Field(ge=5, le=100)] = 20
    """A time step, in milliseconds; divides 1000."""
    frame_hops: Annotated[str, Field(pattern=r"^(\d+(,\d+)*)?$")] = ""
    """Time steps of the clients in milliseconds, comma-separated, where they differ: each is that
    of equally many clients, drawn from `run.seed`; a device says its own. Decays, delays and input
    gains follow, so that time constants keep their milliseconds; parameters are those of
    `data.frame-hop-ms`, where the server evaluates. Empty: that of all
    ([time steps](time-steps.md))."""
    on_bad_audio: Literal["fail", "skip"] = "fail"
    """`fail` names the bad files, `skip` leaves them out with a warning."""
    cache_dir: str = ""
    """Where features and partitionings are kept; empty: `$FNL_CACHE_DIR`, else `~/.cache/fnl`."""

    @property
    def client_hops(self) -> tuple[int, ...]:
        """Time steps of the clients in ms; empty where all have `frame_hop_ms`."""
        return tuple(int(hop) for hop in self.frame_hops.split(",") if hop)

    @property
    def inputs(self) -> int:
        """Features of a time step, F."""
        return self.event_channels if self.corpus == "spikes" else self.mel_bins
