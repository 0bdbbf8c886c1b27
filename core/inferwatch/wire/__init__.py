"""What crosses the wire: CloudEvents and the payloads of model servers' protocols."""
