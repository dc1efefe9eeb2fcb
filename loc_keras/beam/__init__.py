"""Answers about images on a cluster, by the public API of Apache Beam.

`worker` travels with the pipeline: a worker needs Apache Beam, TensorFlow and cloudpickle alone.
"""
