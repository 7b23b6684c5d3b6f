"""What the GUI and the Processing algorithms share with QGIS."""
