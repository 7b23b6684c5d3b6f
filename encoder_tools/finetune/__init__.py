"""Fine-tuning of mask decoders on the user's polygons, from the features in stores."""
