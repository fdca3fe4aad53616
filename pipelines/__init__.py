"""Pipelines: extraction joins clips, extractors and a store; trainers read stores."""
