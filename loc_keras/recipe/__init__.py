"""Settings that a data set and a device call for, when no config says them."""
