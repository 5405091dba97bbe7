"""Tables of who may send: devices, what became of them, and enrolment tokens. Private: no snapshot holds any of it.

Rows are only added while the server runs. A secret is kept as its SHA-256, a forgotten device as that of its id.
"""

IDENTITY_TABLES = """
CREATE TABLE device(
    device_id UUID PRIMARY KEY, group_name VARCHAR NOT NULL, enroll_time TIMESTAMP NOT NULL,
    key_sha256 BLOB NOT NULL);

CREATE TABLE device_event(
    device_id UUID NOT NULL, event_time TIMESTAMP NOT NULL, kind VARCHAR NOT NULL);

CREATE TABLE enrollment_token(
    token_id VARCHAR PRIMARY KEY, secret_sha256 BLOB NOT NULL, group_name VARCHAR NOT NULL,
    use_count INTEGER NOT NULL, create_time TIMESTAMP NOT NULL, expire_time TIMESTAMP NOT NULL);

CREATE TABLE enrollment_use(
    token_id VARCHAR NOT NULL, request_id UUID NOT NULL, device_id UUID NOT NULL, use_time TIMESTAMP NOT NULL);

CREATE TABLE forgotten_device(device_sha256 BLOB PRIMARY KEY, forget_time TIMESTAMP NOT NULL);
"""
