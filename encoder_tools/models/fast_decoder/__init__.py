"""SAM's mask decoder, rewritten to compute the same masks with less work for each prompt."""
