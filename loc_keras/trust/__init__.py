"""How far a single answer can be believed: calibrated confidence and boxes with a guarantee."""
