"""Pure geometry, tiling and radiometry: numpy, shapely and contourpy; no I/O, no Qt, no GDAL."""
