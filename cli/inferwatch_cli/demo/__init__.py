"""The demo: a real model server, real rows through it, and what inferwatch finds in them."""
