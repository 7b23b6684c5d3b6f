"""The map canvas: the tool, the object being drawn, and what is shown over the map."""
