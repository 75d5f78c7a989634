"""The colours of every plot.

Those of `SERIES` differ for any kind of colour vision: M. Okabe and K. Ito's, and two
more. The report's page has shades of its own for each of them, light and dark (`page.html.j2`).
"""

INK, GREY, PALE = "#1b2a33", "#6f7d85", "#b4bfc5"
SERIES = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#7f3c8d",
    "#8c564b",
    "#56b4e9",
)
BLUE, RED = SERIES[:2]
