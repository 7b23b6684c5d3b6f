"""The panel, its actions and the options page."""
