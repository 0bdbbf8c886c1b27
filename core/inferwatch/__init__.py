"""The shared vocabulary of inferwatch."""
