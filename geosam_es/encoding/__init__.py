"""Reading a raster as tiles, with any library, and encoding them into a store."""
