"""The sidecar: relays HTTP to a model server in any language, and captures what it is asked and answers."""

from inferwatch_logger.proxy.relay import Relay

__all__ = ["Relay"]
