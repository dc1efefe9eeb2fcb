"""Colours and text sizes that all pictures share.

The hues are from the colour-blind safe palette of Okabe and Ito (2008, "Color Universal
Design"). No picture leans on hue alone: truth is solid and prediction dashed, validation is
solid and training dashed, so that a gray print can be read too.
"""

BLUE = "#0072B2"
GREEN = "#009E73"
VERMILLION = "#D55E00"
SKY = "#56B4E9"
YELLOW = "#F0E442"
PURPLE = "#CC79A7"

INK = "#222222"
MUTED = "#6B6B6B"
FAINT = "#D9D9D9"
PAPER = "#FFFFFF"

TRUTH = SKY
PREDICTION = YELLOW
WRONG = VERMILLION
WRONG_INK = "#A84300"  # the same hue, dark enough for small text on white

FONT = "DejaVu Sans"  # ships inside matplotlib, so text has the same width everywhere

# Text sizes in points.
TITLE_SIZE = 12.0
LABEL_SIZE = 9.5
SMALL_SIZE = 8.5
