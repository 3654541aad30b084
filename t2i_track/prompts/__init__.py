"""Prompt files and COCO captions to an ordered, hashed manifest."""
