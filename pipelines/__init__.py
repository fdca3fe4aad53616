"""Pipelines: what runs from end to end. Extraction joins clips, extractors and a store; trainers read stores."""
