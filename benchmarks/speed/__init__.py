"""The speed benchmark, which compares GeoSAM-ES with references in the same run.

``python -m benchmarks.speed`` runs the cases one after another, each in a process of its own (`run`), and writes
``results.json``, ``results.md`` and a picture (`report`, `figures`). A case yields rows and tables (`model`). Both
sides of a comparison are timed in turns (`measure`), with the same threads and weights, and their results are compared
too.
"""
