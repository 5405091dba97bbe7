"""The agent: probes a device, weighs it in, and delivers the run."""
