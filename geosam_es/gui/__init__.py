"""The QGIS plugin: what the user sees and touches."""
