"""Measurements of the embedded model `mini`: ``make measure-mini``."""
