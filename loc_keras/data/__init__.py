"""Data: readers, the synthetic digits task, augmentation and the input pipelines."""
