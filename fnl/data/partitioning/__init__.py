"""Splitting the training clips of a corpus over the clients of a federation.

`partition` is the way in, `PARTITIONERS` the registry to extend (see `registry`).
"""

from fnl.data.partitioning.assignment import Assignment, ClipTable
from fnl.data.partitioning.registry import PARTITIONERS, Partitioner, partition
from fnl.data.partitioning.result import Partitioning
from fnl.data.partitioning.spec import PartitionSpec

__all__ = [
    "PARTITIONERS",
    "Assignment",
    "ClipTable",
    "PartitionSpec",
    "Partitioner",
    "Partitioning",
    "partition",
]
