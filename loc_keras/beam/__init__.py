"""Answers about images on a cluster, by the public API of Apache Beam."""
