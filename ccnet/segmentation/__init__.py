"""Segmenting photos: from an image file to its mask and what goes with it, and to the index of all."""
