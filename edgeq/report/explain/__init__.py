"""What a report means, for people who are not experts: one piece, written from its measurements.

`facts` chooses what to tell, `piece` tells it, and `rules` holds the text to the rules it keeps.
"""
