"""The worker: from a zone's topic into its store, each span exactly once, whatever dies in between.

One step a file, all with the same verbs (:mod:`mobius_pipeline.worker.steps`), in this order:

1. :mod:`fetch` reads messages of the partitions from where the ledger stands.
2. :mod:`validate` parses each once.
3. :mod:`route` separates what is not of this zone.
4. :mod:`batch` cuts contiguous offset ranges of one partition.
5. :mod:`intent` claims a range in the ledger.
6. :mod:`insert` stores it under the range's token.
7. :mod:`advance` writes that it is stored.

There is one way to recover from anything: begin again at the ledger, and repeat its last unfinished range precisely.
"""

from mobius_pipeline.worker.run import run_worker
from mobius_pipeline.worker.settings import WorkerOptions

__all__ = ["WorkerOptions", "run_worker"]
