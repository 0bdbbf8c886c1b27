"""The payload log: the journal of raw events, and what is derived from it."""
