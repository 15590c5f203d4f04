"""Who should have which partition: every worker computes the same answer from the same roster."""

from __future__ import annotations

from collections.abc import Collection, Mapping

__all__ = ["share"]


def share(
    partitions: Collection[int], workers: Collection[str], holders: Mapping[int, str]
) -> dict[int, str]:
    """Give each partition to a worker, evenly, moving as few as that allows.

    Parameters
    ----------
    partitions
        All partitions of the topic.
    workers
        The live workers; when there are none, nothing is given.
    holders
        Who has a partition now; holders that are no live workers count for nothing.

    Returns
    -------
    dict
        Worker by partition. No two workers' numbers of partitions differ by more than one.
    """
    if not workers:
        return {}
    held: dict[str, list[int]] = {worker: [] for worker in workers}
    for partition in sorted(partitions):
        if (holder := holders.get(partition)) in held:
            held[holder].append(partition)
    # Who has most keeps one more where it does not come out even: that moves least.
    ranked = sorted(held, key=lambda worker: (-len(held[worker]), worker))
    least, more = divmod(len(partitions), len(ranked))
    quota = {worker: least + (rank < more) for rank, worker in enumerate(ranked)}
    given = {number: worker for worker in ranked for number in held[worker][: quota[worker]]}
    free = iter(number for number in sorted(partitions) if number not in given)
    for worker in ranked:
        for _ in range(quota[worker] - min(len(held[worker]), quota[worker])):
            given[next(free)] = worker
    return given
