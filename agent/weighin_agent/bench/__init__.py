"""The micro-benchmark: synthesise models on the device, time their layers, one child process per case."""
