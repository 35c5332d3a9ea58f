"""How many clips of each label a run's clients hold, from the cache that the run was fed from."""

from __future__ import annotations

import polars as pl

from experiments.figures.catalogue import LeftOut
from experiments.figures.run_tables import RunTables
from fnl.data.corpus import TRAIN
from fnl.data.describe import count_column, describe
from fnl.data.federated import cache_dir, partition_spec
from fnl.data.partitioning import partition
from fnl.data.store import FeatureStore
from fnl.errors import FnlError


def labels_held(run: RunTables) -> pl.DataFrame:
    """Return `partition` and a column a label with the clips each client holds.

    Nothing is computed but the split, which configuration and clips decide.

    Raises:
        LeftOut: if this machine no longer has the run's features.
    """
    if not run.features:
        raise LeftOut("the run does not say which features it used: who holds what is not known")
    path = cache_dir(run.config.data) / "features" / run.features
    try:
        store = FeatureStore.open(path)
        rows = (store.clips["split"] == TRAIN).arg_true().to_numpy()
        split = partition(store.clips, rows, partition_spec(run.config))
    except FnlError:
        raise LeftOut(
            "the features that the run used are not cached here: who holds what is not known"
        ) from None
    held = describe(store.clips, store.labels, split)
    return held.select(
        "partition", *(pl.col(count_column(label)).alias(label) for label in store.labels)
    )
