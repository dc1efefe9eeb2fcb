"""Readers of annotation formats: each turns a folder's files into `annotations.Annotations`."""
