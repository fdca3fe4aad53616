"""From caches to predictions: the trainers, and what they share."""
