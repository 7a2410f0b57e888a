"""Does a bundle say what torch says, and what does its precision cost?"""
