"""What runs inside the FINN environment: one QONNX file to a hardware graph with its RTL."""
