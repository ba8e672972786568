"""Bridges to other libraries. Each is a module of its own and is imported only by whoever asks for it."""
