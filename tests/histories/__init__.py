"""Histories: what clients of several servers over one Redis saw, and whether that can be true.

Clients write down each call, faults come from a seeded plan, and a checker judges the whole: the
commits of a session form one chain, in which a rewind leads back to an earlier place; each text is
the one computed alone; sessions start from others where those stood at that time; nothing that was
acknowledged is lost; and a call without an answer may have happened or not.
"""
