"""How good answers are: figures with intervals, where they fail, and how two models compare."""
