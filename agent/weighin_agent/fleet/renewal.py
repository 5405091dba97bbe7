"""The line of a device that enrolled with a token: as ``AggregatorClient``, and keeps its certificate fresh."""

import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeVar

from weighin.v1 import services_pb2
from weighin_agent.errors import CredentialRefusedError, DeliveryError, StateError
from weighin_agent.fleet.client import SUBMIT_DEADLINE_SECONDS, AggregatorClient, RunAnswer
from weighin_agent.fleet.credential import Credential
from weighin_agent.fleet.enrolment import prove_key, renew_certificate, validity_of
from weighin_agent.fleet.state import Enrolment

_Answered = TypeVar("_Answered")


class RenewingLine:
    """A line over mutual TLS; a context manager.

    At two thirds of its life the certificate is renewed over the line itself before the next call. One that has
    expired, or that the aggregator refuses, is renewed once by proof of its key, where devices enrol. How long after
    its end that still works is for the aggregator to say.
    """

    def __init__(
        self,
        enrolment: Enrolment,
        credential: Credential,
        *,
        device_id: str,
        now_seconds: Callable[[], float] = time.time,
    ) -> None:
        self._enrolment = enrolment
        self._credential = credential
        self._device_id = device_id
        self._now_seconds = now_seconds
        self._client = AggregatorClient(enrolment.aggregator_address, device_id=device_id, credential=credential)
        self._has_asked = False
        self._has_proved = False

    @property
    def address(self) -> str:
        """HOST:PORT where runs go."""
        return self._client.address

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def submit(
        self, request: services_pb2.SubmitRunsRequest, deadline_seconds: float = SUBMIT_DEADLINE_SECONDS
    ) -> tuple[RunAnswer, ...]:
        """As ``AggregatorClient.submit``."""
        return self._with_fresh_certificate(lambda: self._client.submit(request, deadline_seconds))

    def delete_device_data(self, request_id: str) -> None:
        """As ``AggregatorClient.delete_device_data``."""
        self._with_fresh_certificate(lambda: self._client.delete_device_data(request_id))

    def keep_fresh(self) -> None:
        """Renew the certificate where it is due. Raises DeliveryError where it has expired and stays so."""
        if self._has_asked or self._has_proved:
            return
        validity = validity_of(self._credential, self.address)
        if self._now_seconds() >= validity.expire_time_seconds:
            self._renew_by_proof()
        elif self._now_seconds() >= validity.renew_time_seconds:
            self._has_asked = True
            # The present one still holds: the next delivery tries again.
            with suppress(DeliveryError, StateError):
                renew_certificate(self._client, self._credential, self._device_id)
                self._client.close()

    def _with_fresh_certificate(self, call: Callable[[], _Answered]) -> _Answered:
        self.keep_fresh()
        try:
            return call()
        except CredentialRefusedError:
            if self._has_proved:
                raise
            self._renew_by_proof()
            return call()

    def _renew_by_proof(self) -> None:
        # Where the aggregator is away this is tried again; once it has answered, its answer stands.
        prove_key(self._enrolment, self._credential, self._device_id)
        self._has_proved = True
        self._client.close()
