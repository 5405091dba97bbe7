"""What of a device stays from run to run: it is checked and converted once, however many runs bring it."""

from weighin.v1 import device_pb2


def lasting_part(device: device_pb2.Device) -> bytes:
    """Serialize a device without what changes from run to run: free memory and storage, and measured bandwidths."""
    lasting = device_pb2.Device()
    lasting.CopyFrom(device)
    lasting.ClearField("storage")
    if lasting.HasField("memory"):
        lasting.memory.ClearField("available_bytes")
        lasting.memory.ClearField("read_bandwidth_bytes_per_second")
        lasting.memory.ClearField("single_thread_read_bandwidth_bytes_per_second")
    for accelerator in lasting.accelerators:
        accelerator.ClearField("memory_available_bytes")
    return lasting.SerializeToString()
