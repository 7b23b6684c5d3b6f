"""A raster as tiles, whatever library reads it, and their encoding into a store."""
