"""What every training shares: losses, a simulated user, validation. Used by `mini` and by the tuning of decoders."""
