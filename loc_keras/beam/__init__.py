"""Answers about images on a cluster, by Apache Beam.

What runs on the workers (`worker_*`) travels with the pipeline: there a Python with Apache Beam and
TensorFlow is enough.
"""
