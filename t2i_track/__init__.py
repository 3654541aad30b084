"""A laboratory notebook for text-to-image models."""
