"""Media files to audio samples and images, in one process. Knows no model, no store, no clip list."""
