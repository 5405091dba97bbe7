"""Certificates for devices: the first one by a token, the next ones by the one before."""

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial

import structlog
from cryptography.hazmat.primitives.asymmetric import ec

from weighin.v1 import services_pb2
from weighin_aggregator.identity import register, token
from weighin_aggregator.identity.authority import Authority, Issued
from weighin_aggregator.identity.certificates import has_signed, key_sha256, requested_key
from weighin_aggregator.identity.peer import address, is_device_id, is_lower_case_uuid
from weighin_aggregator.identity.rate import Allowance
from weighin_aggregator.identity.register import Applicant
from weighin_aggregator.identity.roster import Roster
from weighin_aggregator.limits import Limits
from weighin_aggregator.refusal import Reason, Refusal
from weighin_aggregator.serve.gate import CertifiedGate
from weighin_aggregator.serve.service import Context, Handler, decoded, in_transaction
from weighin_aggregator.store.commit import Committer
from weighin_aggregator.store.store import utc_now

ENROLLMENT_SERVICE = "weighin.v1.EnrollmentService"
_MINUTE_SECONDS = 60.0

_log = structlog.get_logger()


class EnrollmentService:
    """The handlers for devices without a valid certificate. ``run_address`` is where they send runs afterwards."""

    def __init__(
        self,
        committer: Committer,
        limits: Limits,
        authority: Authority,
        roster: Roster,
        *,
        run_address: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._committer = committer
        self._limits = limits
        self._authority = authority
        self._roster = roster
        self._run_address = run_address
        # Of an address: attempts that failed, and those that asked for what the device had been given already.
        self._attempts = Allowance(
            limit=limits.failures_per_minute, seconds=_MINUTE_SECONDS, callers=limits.counted_callers, clock=clock
        )
        self._issued = Allowance(limit=1, seconds=_MINUTE_SECONDS, callers=limits.counted_callers, clock=clock)
        # One attempt at a time: whoever makes many at once is counted as if it made them one after another, and many
        # devices that enrol at once behind one address are not taken for failures.
        self._turn = asyncio.Lock()

    def methods(self) -> Mapping[str, Handler]:
        """Return the handlers by the name of their method."""
        return {"Enroll": self._enroll}

    async def _enroll(self, data: bytes, context: Context) -> bytes:
        caller = address(context.peer())
        async with self._turn:
            if (wait_seconds := self._attempts.wait_seconds(caller)) > 0:
                raise Refusal(Reason.TOO_MANY_FAILURES, wait_seconds=wait_seconds)
            # Before the outcome is known: it counts too if the caller hangs up, or if the server has an accident.
            self._attempts.spend(caller)
            try:
                request = decoded(services_pb2.EnrollRequest, data)
                answer = await self._enrolled(request)
            except Refusal as refusal:
                if refusal.reason is Reason.STORE_UNAVAILABLE:
                    self._attempts.give_back(caller)
                else:
                    _log.warning("enrollment_refused", reason=refusal.reason.value)
                raise
            if self._issued.wait_seconds(request.device_id) == 0:
                self._attempts.give_back(caller)
                self._issued.spend(request.device_id)
            return answer

    async def _enrolled(self, request: services_pb2.EnrollRequest) -> bytes:
        if not is_lower_case_uuid(request.request_id):
            raise Refusal(Reason.FIELD_INVALID, field="request_id")
        if not is_device_id(request.device_id):
            raise Refusal(Reason.FIELD_INVALID, field="device_id")
        if request.consent_version < 1:
            raise Refusal(Reason.CONSENT_REQUIRED)
        key = _key(request.csr_der, self._limits)
        self._roster.require_welcome(request.device_id)
        if request.WhichOneof("proof") == "renewal":
            await self._require_old_key(request, key)
        else:
            await self._use_token(request, key)
        _log.info("enrolled", device_id=request.device_id, by=request.WhichOneof("proof"))
        issued = self._authority.admit(key, request.device_id)
        answer = services_pb2.EnrollResponse(
            device_id=request.device_id, certificate_chain_pem=issued.chain_pem, run_address=self._run_address
        )
        answer.expire_time.FromDatetime(issued.expire_time)
        return answer.SerializeToString()

    async def _use_token(self, request: services_pb2.EnrollRequest, key: ec.EllipticCurvePublicKey) -> None:
        """Let the store count a use, once for this request. Raises Refusal."""
        proof = token.read(request.enrollment_token)
        if proof is None:
            raise Refusal(Reason.ENROLLMENT_TOKEN_INVALID)
        applicant = Applicant(
            request_id=request.request_id, device_id=request.device_id, key_sha256=key_sha256(key), proof=proof
        )
        await in_transaction(self._committer, partial(register.enroll, applicant=applicant, now=utc_now()))
        self._roster.enrolled.add(request.device_id)

    async def _require_old_key(self, request: services_pb2.EnrollRequest, key: ec.EllipticCurvePublicKey) -> None:
        """Pass a device whose certificate expired a short while ago and who still holds its key. Raises Refusal."""
        old = self._authority.vouched(request.renewal.expired_certificate_pem)
        if (
            old is None
            or old.device_id != request.device_id
            or self._authority.clock() >= old.expire_time + timedelta(days=self._limits.renewal_days)
            or not has_signed(old.public_key, request.renewal.signature, request.csr_der)
        ):
            raise Refusal(Reason.CREDENTIAL_INVALID)
        holds = partial(register.holds_key, device_id=request.device_id, key_sha256=key_sha256(key))
        if not await in_transaction(self._committer, holds):
            raise Refusal(Reason.CREDENTIAL_INVALID)


class CredentialRenewal:
    """The handler on the run port that gives an enrolled device its next certificate, for the same key."""

    def __init__(self, limits: Limits, authority: Authority, gate: CertifiedGate) -> None:
        self._limits = limits
        self._authority = authority
        self._gate = gate

    def methods(self) -> Mapping[str, Handler]:
        """Return the handlers by the name of their method."""
        return {"RenewCredential": self._renew}

    async def _renew(self, data: bytes, context: Context) -> bytes:
        device = self._gate.admit(context)
        key = _key(decoded(services_pb2.RenewCredentialRequest, data).csr_der, self._limits)
        if key != self._gate.peer(context).public_key:
            raise Refusal(Reason.FIELD_INVALID, field="csr_der")
        issued: Issued = self._authority.admit(key, device)
        _log.info("credential_renewed", device_id=device)
        answer = services_pb2.RenewCredentialResponse(certificate_chain_pem=issued.chain_pem)
        answer.expire_time.FromDatetime(issued.expire_time)
        return answer.SerializeToString()


def _key(csr_der: bytes, limits: Limits) -> ec.EllipticCurvePublicKey:
    key = requested_key(csr_der) if len(csr_der) <= limits.csr_bytes else None
    if key is None:
        raise Refusal(Reason.FIELD_INVALID, field="csr_der")
    return key
