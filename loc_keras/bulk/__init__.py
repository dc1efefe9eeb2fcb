"""Answers about any number of image files, written to a folder, continued where they stopped."""
