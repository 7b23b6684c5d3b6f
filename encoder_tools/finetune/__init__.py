"""Tuning a mask decoder on the user's own polygons, from the features in stores."""
