"""What an operator's command and the server tell each other, as values and as messages."""

from collections.abc import Sequence
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from weighin.v1 import services_pb2
from weighin_aggregator.identity.register import KnownDevice
from weighin_aggregator.store.store import Stats


def to_stats_message(stats: Stats) -> services_pb2.GetStatsResponse:
    """Return counts as they travel."""
    return services_pb2.GetStatsResponse(
        run_count=stats.runs,
        device_count=stats.devices,
        measurement_count=stats.measurements,
        failure_count=stats.failures,
        oldest_receive_time=_to_timestamp(stats.oldest_receive_time),
        last_receive_time=_to_timestamp(stats.last_receive_time),
        enrolled_device_count=stats.enrolled_devices,
        revoked_device_count=stats.revoked_devices,
        forgotten_device_count=stats.forgotten_devices,
        file_bytes=stats.file_bytes,
        last_backup_time=_to_timestamp(stats.last_backup_time),
    )


def from_stats_message(message: services_pb2.GetStatsResponse) -> Stats:
    """Read counts that travelled."""
    return Stats(
        runs=message.run_count,
        devices=message.device_count,
        measurements=message.measurement_count,
        failures=message.failure_count,
        oldest_receive_time=_from_timestamp(message, "oldest_receive_time"),
        last_receive_time=_from_timestamp(message, "last_receive_time"),
        enrolled_devices=message.enrolled_device_count,
        revoked_devices=message.revoked_device_count,
        forgotten_devices=message.forgotten_device_count,
        file_bytes=message.file_bytes,
        last_backup_time=_from_timestamp(message, "last_backup_time"),
    )


def to_devices_message(devices: Sequence[KnownDevice]) -> services_pb2.ListDevicesResponse:
    """Return devices as they travel."""
    return services_pb2.ListDevicesResponse(
        devices=[
            services_pb2.EnrolledDevice(
                device_id=device.device_id,
                group=device.group,
                enroll_time=_to_timestamp(device.enroll_time),
                revoke_time=_to_timestamp(device.revoke_time),
                last_receive_time=_to_timestamp(device.last_receive_time),
            )
            for device in devices
        ]
    )


def from_devices_message(message: services_pb2.ListDevicesResponse) -> list[KnownDevice]:
    """Read devices that travelled."""
    return [
        KnownDevice(
            device_id=device.device_id,
            group=device.group,
            enroll_time=device.enroll_time.ToDatetime(),
            revoke_time=_from_timestamp(device, "revoke_time"),
            last_receive_time=_from_timestamp(device, "last_receive_time"),
        )
        for device in message.devices
    ]


def _to_timestamp(moment: datetime | None) -> Timestamp | None:
    if moment is None:
        return None
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp


def _from_timestamp(
    message: services_pb2.GetStatsResponse | services_pb2.EnrolledDevice, field: str
) -> datetime | None:
    has_time = message.HasField(field)  # type: ignore[arg-type] # one of the fields that are times
    moment: datetime = getattr(message, field).ToDatetime()
    return moment if has_time else None
