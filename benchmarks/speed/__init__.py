"""The benchmark: what GeoSAM-ES does and what it is measured against, side by side in one run.

``python -m benchmarks.speed`` runs the cases one after another, each in a process of its own (`run`), and writes
``results.json``, ``results.md`` and a picture (`report`, `figures`). A case yields rows and tables (`model`); what is
compared takes turns on the clock (`measure`), on the same threads and with the same weights, and its results are
compared too.
"""
