"""Protocols around the same `Stream`: HTTP, WebSockets and Wyoming, many clients on one model."""
