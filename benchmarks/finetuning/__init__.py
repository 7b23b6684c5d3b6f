"""What fine-tuning brings, by the number of polygons."""
