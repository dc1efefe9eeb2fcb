"""Pictures and tables of what a localizer has learned: galleries, curves, diagrams.

Nothing here opens a window or touches `matplotlib.pyplot`: every figure is a
`matplotlib.figure.Figure` of its own, rendered by Agg and written in one step.
"""
