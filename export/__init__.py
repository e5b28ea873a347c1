"""Checkpoint to one ONNX file: graph, model card, parity check."""
