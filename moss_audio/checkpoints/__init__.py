"""Checkpoints: found, downloaded, checked tensor by tensor, sized."""
