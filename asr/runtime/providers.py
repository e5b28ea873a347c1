"""What runs the graph of a model: execution providers of onnxruntime, by their names."""

CPU = "CPUExecutionProvider"
