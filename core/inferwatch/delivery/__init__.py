"""Delivery: events from where they arise to a sink, without ever holding up whoever captured them."""
