"""Splitting the training clips of a corpus over the clients of a federation.

`partition` is the way in; `registry` says how to bring a partitioner of one's own.
"""

from fnl.data.partitioning.assignment import Assignment, ClipTable
from fnl.data.partitioning.registry import Partitioner, partition
from fnl.data.partitioning.result import Partitioning
from fnl.data.partitioning.spec import PartitionSpec

__all__ = [
    "Assignment",
    "ClipTable",
    "PartitionSpec",
    "Partitioner",
    "Partitioning",
    "partition",
]
