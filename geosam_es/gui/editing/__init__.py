"""From the object being drawn to a feature of the user's layer."""
