"""The fault campaign: kills and pauses everything while spans flow, and compares each span by its identity at the end.

What was produced is read from the broker itself; what is stored, from the store; the rollup is computed a second time,
here, from the messages. Nothing of the pipeline's own code decides what is right.

- :mod:`faults` names the faults, :mod:`plan` spreads them over a run by a seed.
- :mod:`span_messages` makes the spans, :mod:`producing` publishes them.
- :mod:`services` and :mod:`crew` are the processes that die; :mod:`actions` is how.
- :mod:`truth` reads the topic, :mod:`rollup` computes what follows from it, :mod:`compare` holds the store against it.
- :mod:`campaign` runs all of it; :mod:`replay` stores the topic again and compares checksums.
"""
