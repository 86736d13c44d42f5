"""An explanation of a report for non-experts, written from its measurements.

`facts` holds the figures, `piece` writes the text, and `rules` checks the text against its style
rules.
"""
