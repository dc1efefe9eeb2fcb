"""Writers: the records of a data set in another format, one file each.

Each format is a folder that the reader of the same name, and other people's tools, can read.
"""
